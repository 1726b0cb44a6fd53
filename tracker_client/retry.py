"""Whether a call that failed is to be made again, and when. No I/O: tables, and functions of their arguments.

The rule of the contract: retry what has RetryInfo, after the time it names, and nothing else that the service says.
What does not come from the service itself (no connection, no answer) goes by its code.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import Message

if TYPE_CHECKING:
    from tracker_client.errors import TrackerError

TRANSIENT_CODES: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
"""Codes after which the same call may succeed though nobody says when.

RESOURCE_EXHAUSTED is not among them: without RetryInfo it is grpc's own word for a message that is too large.
"""
FIRST_DELAY_SECONDS: Final = 0.1
"""Before the second attempt, unless the server names more. Doubles with each further one."""
MAX_DELAY_SECONDS: Final = 5.0
"""It grows no longer than this."""
JITTER: Final = 0.3
"""Each delay is longer by up to this share of it, at random: callers that failed together do not come back together."""
LEAST_ATTEMPT_SECONDS: Final = 10.0
"""Attempts of a repeatable write get at least so much of what is left."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Make the same call again."""

    delay: float
    """After so many seconds."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The error is the answer."""


def is_retryable(code: str, reason: str, retry_after: float | None) -> bool:
    """Whether the same call, with the same writer_id and sequence, may succeed later.

    code: name of the grpc status code; reason: of the service's ErrorInfo, empty when the service did not speak;
    retry_after: seconds that the server names, None when it names none.
    """
    return retry_after is not None or (not reason and code in TRANSIENT_CODES)


def decide(
    error: TrackerError,
    attempt: int,
    *,
    repeatable: bool = True,
    left: float = math.inf,
    chance: Callable[[], float] = random.random,
) -> Retry | GiveUp:
    """What to do after the attempt of that number (from 1 on) has failed.

    repeatable: whether doing it twice does no harm, see is_repeatable; otherwise it is done again only where the error
    says that nothing was written. left: seconds until the caller's deadline; a retry that would come later is none.
    chance: a number from 0 up to 1.
    """
    if not error.retryable or not (repeatable or _says_not_written(error)):
        return GiveUp()
    grown = FIRST_DELAY_SECONDS * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
    delay = max(error.retry_after or 0.0, min(grown, MAX_DELAY_SECONDS)) * (1 + JITTER * chance())
    return Retry(delay) if delay < left else GiveUp()


def is_repeatable(request: Message) -> bool:
    """Whether a request may be sent twice, its first sending having been taken: reads, and writes that are known again.

    A write is known again by its writer_id and sequence; a start by its run and attempt; heartbeats and closes say the
    same each time.
    """
    return _REPEATABLE.get(request.DESCRIPTOR.name, _always)(request)


def attempt_seconds(request: Message, left: float) -> float:
    """How long one attempt may take, of `left` seconds until the caller's deadline.

    A write that can be repeated gets a half, as it is answered within milliseconds where all is well: the rest is for
    another server. Everything else gets all: a read may take its time, and of what cannot be repeated an attempt that
    was cut off would only leave the caller in doubt.
    """
    if request.DESCRIPTOR.name not in _REPEATABLE or not is_repeatable(request):
        return left
    return max(left / 2, min(left, LEAST_ATTEMPT_SECONDS))


_MAX_DOUBLINGS: Final = 30
"""Beyond MAX_DELAY_SECONDS, and no number that overflows."""


def _says_not_written(error: TrackerError) -> bool:
    return error.reason == "TOO_MANY_OUTSTANDING" or error.metadata.get("outcome") == "not_written"


def _always(_: Any) -> bool:
    return True


def _has_pair(request: Any) -> bool:
    return bool(request.writer_id and request.sequence)


def _has_pair_and_attempt(request: Any) -> bool:
    return _has_pair(request) and bool(request.attempt)


def _has_run(request: Any) -> bool:
    return bool(request.run_id)


_REPEATABLE: Final[Mapping[str, Callable[[Any], bool]]] = {
    # Without a run id the server makes one, another for each sending.
    "StartRunRequest": _has_run,
    "LogMetricRequest": _has_pair,
    "LogMetricsRequest": _has_pair,
    "RunCompletedRequest": _has_pair,
    "UpdateRunRequest": _has_pair,
    "UpdateExperimentRequest": _has_pair,
    # Without an attempt the server makes one, another for each sending.
    "RewindRunRequest": _has_pair_and_attempt,
    "StopRunRequest": _has_pair,
    "DeleteRunRequest": _has_pair,
    "UndeleteRunRequest": _has_pair,
    "DeleteExperimentRequest": _has_pair,
    "UndeleteExperimentRequest": _has_pair,
    "CloseWriterRequest": _always,
    "HeartbeatRequest": _always,
}
"""Of each write. What is not here is a read."""
