"""The one error of this package."""


class ServerError(RuntimeError):
    """A server could not be installed, started or reached; the text says what to do."""
