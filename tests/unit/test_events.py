"""Events as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from tracker_server import limits
from tracker_server.events import run_completed
from tracker_server.model.records import EndedAttempt
from tracker_server.model.typed_json import encode_double

ENDED = EndedAttempt(
    run_id="run",
    experiment_id="vision.v2",
    attempt=3,
    status=3,
    reason="out of memory",
    ended_ms=1_700_000_000_005,
    final_metrics={"acc": 0.5, "loss": encode_double(math.nan)},
    last_values={"acc": 0.25, "lr": math.inf, "grad": -math.inf},
    artifacts={"model": "s3://bucket/m"},
    metadata={"gpu": "A100 é"},
    key=[3, 1_700_000_000_005, "writer", 9],
)


def told(**changes: Any) -> dict[str, Any]:
    """The event of an end."""
    body: dict[str, Any] = json.loads(run_completed(dataclasses.replace(ENDED, **changes)).body)
    return body


def test_an_event_says_what_is_stored() -> None:
    event = run_completed(ENDED)
    assert event.routing_key == "run.completed.vision.v2"
    assert json.loads(event.body) == {
        "event": "run.completed",
        "event_id": event.id,
        "run_id": "run",
        "experiment_id": "vision.v2",
        "attempt": 3,
        "status": "FAILED",
        "reason": "out of memory",
        "timestamp": "2023-11-14T22:13:20.005Z",
        # Final metrics take the place of last values; JSON has no NaN.
        "metrics": {"acc": 0.5, "grad": "-Infinity", "loss": "NaN", "lr": "Infinity"},
        "artifacts": {"model": "s3://bucket/m"},
        "metadata": {"gpu": "A100 é"},
        "truncated": False,
    }


def test_the_same_end_has_the_same_id_and_another_one_has_another() -> None:
    again = dataclasses.replace(ENDED, metadata={}, last_values={})
    assert run_completed(again).id == run_completed(ENDED).id
    others = [
        dataclasses.replace(ENDED, run_id="other"),
        dataclasses.replace(ENDED, attempt=4),
        dataclasses.replace(ENDED, experiment_id="moved"),
        dataclasses.replace(ENDED, key=[3, 1_700_000_000_005, "writer", 10]),
    ]
    assert len({run_completed(other).id for other in (ENDED, *others)}) == 5


def test_times_of_all_years_are_told() -> None:
    assert told(ended_ms=limits.MIN_TIME_MS)["timestamp"] == "0001-01-01T00:00:00.000Z"
    assert told(ended_ms=limits.MAX_TIME_MS)["timestamp"] == "9999-12-31T23:59:59.999Z"


def test_what_is_too_large_is_left_out_and_said_so() -> None:
    event = told(metadata={"notes": "x" * limits.MAX_EVENT_BYTES})
    assert event["truncated"]
    assert (event["metrics"], event["artifacts"], event["metadata"]) == ({}, {}, {})
    assert event["run_id"] == "run"
