"""The tracker's server side: takes writes, stores them exactly once, answers reads."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("experiment-tracker")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
