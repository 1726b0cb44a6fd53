"""What other services are told, as JSON: see docs/events.md."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Final

from tracker_server import limits
from tracker_server.model.records import EndedAttempt
from tracker_server.model.status import Status
from tracker_server.model.typed_json import decode_double
from tracker_server.ports import Event

RUN_COMPLETED: Final = "run.completed"
"""Name of the event, and the beginning of its routing key."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def run_completed(ended: EndedAttempt) -> Event:
    """That an attempt has ended, however it did."""
    # The same end of the same attempt has the same id, whenever it is told, and by whichever consumer. In another
    # experiment it is another one: services that know it from `default` are told where it belongs.
    identity = json.dumps([ended.run_id, ended.attempt, ended.key, ended.experiment_id])
    event_id = hashlib.blake2b(identity.encode(), digest_size=16, person=b"run.completed").hexdigest()
    finals = {name: decode_double(value) for name, value in ended.final_metrics.items()}
    told = {
        "event": RUN_COMPLETED,
        "event_id": event_id,
        "run_id": ended.run_id,
        "experiment_id": ended.experiment_id,
        "attempt": ended.attempt,
        "status": Status(ended.status).name,
        "reason": ended.reason,
        "timestamp": _moment(ended.ended_ms),
        "metrics": {name: _number(value) for name, value in sorted({**ended.last_values, **finals}.items())},
        "artifacts": dict(ended.artifacts),
        "metadata": dict(ended.metadata),
        "truncated": False,
    }
    body = _encoded(told)
    if len(body) > limits.MAX_EVENT_BYTES:
        body = _encoded({**told, "metrics": {}, "artifacts": {}, "metadata": {}, "truncated": True})
    return Event(event_id, f"{RUN_COMPLETED}.{ended.experiment_id}", body)


def _encoded(told: dict[str, object]) -> bytes:
    return json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _number(value: float) -> float | str:
    """JSON has no other numbers than finite ones."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _moment(milliseconds: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
