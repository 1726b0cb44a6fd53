"""Everything that can go wrong and that a caller is told of. One class per reason; grpc/status_map.py turns them into statuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that is wrong."""

    field: str
    """Path of the field in the request, as google.rpc.BadRequest wants it: `blocks[2].columns[0].name`."""
    description: str
    """What its value is and what would be right."""


class TrackerError(Exception):
    """Base of all errors with a stable reason. The message defaults to the class's docstring."""

    reason = "INTERNAL"
    """Stable, upper-case; goes into google.rpc.ErrorInfo."""
    retry_after: float | None = None
    """Seconds after which the same call may succeed; None: retrying is useless."""

    def __init__(self, message: str | None = None, **metadata: str) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.metadata = metadata
        """Machine-readable facts for google.rpc.ErrorInfo."""


class InvalidRequest(TrackerError):
    """The request has fields that are wrong."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: list[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{first.field}: {first.description}{more}")
        self.violations = violations


class RequestTooLarge(TrackerError):
    """The request is larger than this server takes: split it."""

    reason = "REQUEST_TOO_LARGE"


class Unauthenticated(TrackerError):
    """This server wants an API key: send it as metadata `authorization: Bearer <key>`."""

    reason = "UNAUTHENTICATED"


class InvalidApiKey(TrackerError):
    """The API key is none of this server's."""

    reason = "INVALID_API_KEY"


class RunNotFound(TrackerError):
    """No such run."""

    reason = "RUN_NOT_FOUND"


class ExperimentNotFound(TrackerError):
    """No such experiment."""

    reason = "EXPERIMENT_NOT_FOUND"


class BrokerUnavailable(TrackerError):
    """The message broker is out of reach or did not confirm in time; the write may or may not have been taken."""

    reason = "BROKER_UNAVAILABLE"
    retry_after = 1.0


class QueueFull(TrackerError):
    """The queue is at its length limit and takes nothing until consumers have caught up."""

    reason = "QUEUE_FULL"
    retry_after = 2.0


class TooManyOutstanding(TrackerError):
    """This server holds as many unconfirmed writes as it may."""

    reason = "TOO_MANY_OUTSTANDING"
    retry_after = 0.5


class TooManyWatchers(TrackerError):
    """This server keeps as many watchers as it may."""

    reason = "TOO_MANY_WATCHERS"
    retry_after = 5.0


class ShuttingDown(TrackerError):
    """This server is stopping and takes no more writes."""

    reason = "SHUTTING_DOWN"
    retry_after = 1.0


class StoreUnavailable(TrackerError):
    """The database is out of reach."""

    reason = "DATABASE_UNAVAILABLE"
    retry_after = 2.0


class WriteRefused(TrackerError):
    """The write could not be stored."""

    reason = "WRITE_REFUSED"


class WriteNotVisible(TrackerError):
    """A write named by a write token was not applied within the deadline."""

    reason = "WRITE_NOT_VISIBLE"
    retry_after = 1.0


class WriteDeadLettered(TrackerError):
    """A write named by a write token could not be stored and lies in the dead-letter queue."""

    reason = "WRITE_DEAD_LETTERED"


class RunPurged(TrackerError):
    """A write named by a write token was for a run that was purged; it is not stored."""

    reason = "RUN_PURGED"


class BadMigration(TrackerError):
    """The database has another revision than this server needs: run `tracker_server migrate`."""

    reason = "WRONG_REVISION"


class BadSetting(TrackerError):
    """A setting is wrong."""

    reason = "BAD_SETTING"
