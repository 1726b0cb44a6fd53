"""Random lives of several runs, written through the API in any order and more than once, while the consumer is killed
again and again: what the database says in the end is what a naive reading of the rules says."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.servers.processes import wait_until
from tests.contract.reference import expected_state
from tests.contract.store_state import read_state
from tests.e2e.deployment import Deployment
from tests.e2e.load import Failure, call
from tests.e2e.recount import wait_visible
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1 import tracker_service_pb2_grpc as rpc
from tracker_client.config import to_config
from tracker_server.config import Settings
from tracker_server.envelope import decode_write
from tracker_server.identity import Identity
from tracker_server.store.store import Store, open_store

RUNS = [f"life-{number}" for number in range(5)]
ATTEMPTS = (0, 1_700_000_000_000, 1_700_000_100_000, 1_700_000_200_000)
WRITES_A_RUN = 60
KILLS = 4
CALLERS = 6
RETRY_SECONDS = 60.0
_ACCEPTED = {"created_ms", "last_seen_ms", "heard_ms", "started_ms"}
"""What depends on when the server took a write."""


def life(run_id: str, dice: random.Random) -> list[Any]:
    """Requests of a run's processes, each a writer of its own with an attempt, and of people."""
    made: list[Any] = []
    for writer in range(4):
        attempt = dice.choice(ATTEMPTS)
        requests = [_request(dice, attempt) for _ in range(WRITES_A_RUN // 4)]
        writer_id = f"{run_id}-writer-{writer:08}"
        for sequence, request in enumerate(requests, 1):
            request.run_id, request.writer_id, request.sequence = run_id, writer_id, sequence
        made += requests
        if dice.random() < 0.8:
            last = len(requests) - dice.choice([0, 0, 0, 3])
            made.append(public.CloseWriterRequest(run_id=run_id, writer_id=writer_id, last_sequence=last))
    return made


def _request(dice: random.Random, attempt: int) -> Any:
    at = Timestamp(seconds=1_700_000_000 + dice.randrange(50))
    what = dice.random()
    if what < 0.5:
        return public.LogMetricsRequest(
            blocks=[_block(dice) for _ in range(dice.choice([0, 1, 1, 2]))], attempt=attempt
        )
    if what < 0.6:
        return public.RewindRunRequest(step=dice.randrange(-1, 40), attempt=max(1, attempt), timestamp=at)
    if what < 0.7:
        config, tags = to_config({dice.choice("ab"): dice.randrange(9)}), [dice.choice("xyz")]
        return public.StartRunRequest(
            experiment_id=dice.choice(["", "e0", "e1"]), name="by itself", config=config, tags=tags, attempt=attempt,
            timestamp=at,
        )  # fmt: skip
    if what < 0.8:
        status = dice.choice([data.RUN_STATUS_COMPLETED, data.RUN_STATUS_FAILED, data.RUN_STATUS_PREEMPTED])
        finals = {dice.choice(["m", "only final"]): dice.random()}
        return public.RunCompletedRequest(
            status=status, final_metrics=finals, reason=dice.choice(["", "r"]), attempt=attempt, timestamp=at
        )
    if what < 0.9:
        # Of a person, or of the run itself.
        changes = public.RunChanges(name=dice.choice("pq"), tags=[dice.choice("xyz")], notes=dice.choice(["", "n"]))
        paths = dice.choice([[], ["name"], ["tags"], [f"tags.{dice.choice('xyz')}"]])
        return public.UpdateRunRequest(
            changes=changes, update_mask=FieldMask(paths=paths), attempt=dice.choice([0, attempt]), timestamp=at
        )
    # Asked for long after every attempt began.
    later = Timestamp(seconds=4_000_000_000 + dice.randrange(50))
    return public.StopRunRequest(reason=dice.choice(["", "why"]), withdraw=dice.random() < 0.5, timestamp=later)


def _block(dice: random.Random) -> data.MetricBlock:
    steps = [dice.randrange(50) for _ in range(dice.randrange(1, 30))]
    times = [1_700_000_000_000 + dice.randrange(3) for _ in steps]
    names = dice.sample(["m", "n", "o"], dice.randrange(1, 4))
    columns = [data.MetricColumn(name=name, values=[dice.random() for _ in steps]) for name in names]
    return data.MetricBlock(steps=steps, times_unix_ms=times, columns=columns)


class Callers:
    """Send everything, each request until it is taken."""

    def __init__(self, stub: rpc.TrackerServiceStub, requests: Sequence[Any]) -> None:
        self._stub = stub
        self._requests = requests
        self.sent = 0
        self.tokens: list[str] = []

    def run(self) -> None:
        """Returns when all are taken."""
        with ThreadPoolExecutor(CALLERS) as pool:
            self.tokens = list(pool.map(self._send, self._requests))

    def have_sent(self, count: int) -> bool:
        """Whether so many requests are taken."""
        return self.sent >= count

    def _send(self, request: Any) -> str:
        method = getattr(self._stub, type(request).__name__.removesuffix("Request"))
        tokens: list[str] = []

        def taken() -> bool:
            try:
                tokens.append(call(method, request).write_token)
            except Failure as failure:
                if not failure.may_pass:
                    raise
                return False
            return True

        assert wait_until(taken, RETRY_SECONDS, interval=0.1)
        self.sent += 1
        # So that there is something left to be taken when the last consumer is killed.
        threading.Event().wait(0.02)
        return tokens[0]


@contextmanager
def store_of(deployment: Deployment) -> Iterator[Store]:
    """The database that the processes use."""
    store = open_store(Settings(database_url=deployment.settings["database_url"], broker_url="amqp://unused"), "test")
    try:
        yield store
    finally:
        store.close()


def comparable(state: Mapping[str, Any]) -> dict[str, Any]:
    """The runs without what the model cannot know: when the server took which write."""
    return {
        name: {
            **run,
            "run": {key: value for key, value in run["run"].items() if key not in _ACCEPTED},
            "attempts": [
                {key: value for key, value in attempt.items() if key not in _ACCEPTED} for attempt in run["attempts"]
            ],
        }
        for name, run in state["runs"].items()
    }


@pytest.mark.timeout(150)
def test_random_lives_beside_kills_end_as_told_naively(full: Deployment) -> None:
    full.start()
    dice = random.Random(5)
    requests = [request for run_id in RUNS for request in life(run_id, dice)]
    order = [*requests, *(request for request in requests if dice.random() < 0.2)]
    dice.shuffle(order)
    callers = Callers(full.stub(), order)
    work = threading.Thread(target=callers.run)
    work.start()
    for kill in range(1, KILLS + 1):
        goal = len(order) * kill // (KILLS + 1)
        assert wait_until(partial(callers.have_sent, goal), 60, interval=0.005)
        full.consumer.kill()
        full.consumer.start()
    work.join(60)
    assert len(callers.tokens) == len(order)
    wait_visible(full.stub(), callers.tokens)
    stamped = Identity(now_ms=lambda: 1_700_000_000_000)
    writes = [decode_write(stamped.stamp(request)) for request in requests]
    expected = expected_state(writes, RUNS, [])
    with store_of(full) as store:
        assert comparable(read_state(store, RUNS, [])) == comparable(expected)
        assert wait_until(lambda: not store.stale_runs(1), 30, interval=0.05)
        assert comparable(read_state(store, RUNS, [])) == comparable(expected)
    for run_id, told in expected["runs"].items():
        answer = call(full.stub().GetRun, public.GetRunRequest(run_id=run_id), 30)
        assert (answer.completeness.complete, answer.run.status) == (told["complete"], told["run"]["status"])
        assert {metric.name: metric.count for metric in answer.metrics} == {
            name: metric["count"] for name, metric in told["metrics"].items()
        }
