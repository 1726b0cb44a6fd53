"""Messages that cannot be stored: put away with the reason, and nobody else comes to harm."""

import os
import re
import uuid

import pytest

from deploy.servers.processes import wait_until
from tests.e2e import queues
from tests.e2e.deployment import Deployment
from tests.e2e.load import Failure, Load, call
from tests.e2e.processes import run_command
from tests.e2e.recount import recount, wait_visible
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.tokens import write_token

_LETTER = re.compile(r"^(\S+)  \S+  partition \d+  (.*?)  (.*)$")


def dead_letters(deployment: Deployment) -> dict[str, str]:
    """What `dead list` prints: id to reason."""
    listed = run_command(deployment.environment, "dead", "list")
    assert listed.returncode == 0, listed.stderr
    found = {}
    for line in listed.stdout.splitlines():
        letter = _LETTER.match(line)
        assert letter, line
        found[letter[1]] = f"{letter[2]}: {letter[3]}"
    return found


@pytest.mark.timeout(120)
def test_poison_is_dead_lettered_with_its_reason_and_its_neighbours_are_stored(full: Deployment) -> None:
    """Random bytes, a message of a future version, and messages in which one write of three has an impossible value
    are put on the queues under load. The dead-letter queue then holds exactly those, each with its reason; their
    neighbours and the whole load are stored; reads that wait for a dead write are told at once; the consumer lives."""
    full.start()
    url = full.settings["broker_url"]
    stub = full.stub()
    run_id, writer = "poisoned", uuid.uuid4().hex
    queue = queues.queue_of(run_id)
    uneven = queues.points(run_id, writer, 2, loss=2.0)
    uneven.payload = uneven.payload[:-4]
    wrong_kind = queues.points(run_id, writer, 5, loss=5.0)
    wrong_kind.kind = 99  # type: ignore[assignment]  # that is the point
    bad_step = queues.points(run_id, writer, 8, loss=8.0)
    bad_step.attempt = -1
    with Load(full.addresses, callers=2, runs=3, pause=0.01) as load:
        load.wait_acknowledged(10)
        queues.put(
            url,
            queue,
            os.urandom(500),
            queues.envelope(queues.points(run_id, writer, 10, loss=10.0), version=2),
            queues.envelope(
                queues.points(run_id, writer, 1, loss=1.0), uneven, queues.points(run_id, writer, 3, loss=3)
            ),
            queues.envelope(queues.points(run_id, writer, 4, loss=4.0), wrong_kind),
            queues.envelope(bad_step, queues.points(run_id, writer, 9, loss=9.0)),
            queues.envelope(),
            b"",
        )
        good = [write_token(queues.points(run_id, writer, number)) for number in (1, 3, 4, 9)]
        wait_visible(stub, good)
        load.wait_acknowledged(10)
        load.finish()
    recount(stub, load)
    assert full.consumer.running

    run = call(stub.GetRun, public.GetRunRequest(run_id=run_id))
    assert [(metric.name, metric.count) for metric in run.metrics] == [("loss", 4)]
    assert [(refused.first, refused.last) for refused in run.completeness.writers[0].refused] == [
        (2, 2),
        (5, 5),
        (8, 8),
    ]
    with pytest.raises(Failure) as failure:
        call(stub.GetRun, public.GetRunRequest(run_id=run_id, write_tokens=[write_token(uneven)]), 30)
    assert failure.value.reason == "WRITE_DEAD_LETTERED"

    letters = dead_letters(full)
    reasons = sorted(letters.values())
    assert len(reasons) == 7, reasons
    for wanted in (
        "not an envelope",
        "envelope version 2",
        "envelope version 0",
        "without writes",
        f"{run_id} {writer} 2: ",
        "unknown kind of write: 99",
        "attempt -1",
    ):
        assert any(wanted in reason for reason in reasons), (wanted, reasons)


@pytest.mark.timeout(120)
def test_a_dead_letter_can_be_shown_and_replayed(full: Deployment) -> None:
    """A good write lies among the dead, as after a consumer too old for it. `dead show` prints its points; `dead replay`
    has it stored, once, and the run then complete; a letter that is still bad comes back; the list ends as it should."""
    full.start()
    url = full.settings["broker_url"]
    stub = full.stub()
    run_id, writer = "revived", uuid.uuid4().hex
    write = queues.points(run_id, writer, 2, loss=0.125)
    future = queues.envelope(queues.points(run_id, writer, 3, loss=3.0), version=2)
    queues.put(url, queues.queue_of(run_id), queues.envelope(queues.points(run_id, writer, 1, loss=1.0)), future)
    wait_visible(stub, [write_token(queues.points(run_id, writer, 1))])
    bury(url, write)
    wait_dead(url, 2)
    found = {reason.rpartition(": ")[2]: letter for letter, reason in dead_letters(full).items()}
    letter = found["too old a consumer"]

    shown = run_command(full.environment, "dead", "show", letter)
    assert shown.returncode == 0, shown.stderr
    assert "0.125" in shown.stdout
    assert run_id in shown.stdout
    assert run_command(full.environment, "dead", "show", "no-such-letter").returncode == 1

    replayed = run_command(full.environment, "dead", "replay", letter)
    assert "1 replayed, 0 refused, 0 not found" in replayed.stdout, replayed
    token = write_token(write)
    wait_visible(stub, [token])
    wait_dead(url, 1)
    again = run_command(full.environment, "dead", "replay", "--all")
    assert "1 replayed" in again.stdout, again
    wait_dead(url, 1)
    run = call(stub.GetRun, public.GetRunRequest(run_id=run_id, write_tokens=[token]))
    assert [(metric.count, metric.last.value) for metric in run.metrics] == [(2, 0.125)]
    assert not run.completeness.writers[0].refused
    assert not run.completeness.writers[0].missing


def bury(url: str, write: internal.Write) -> None:
    """Puts a write among the dead letters, as a consumer does."""
    headers: dict[str, str | int] = {
        "reason": "too old a consumer",
        "partition": queues.partition(write.scope_id),
        "scope": write.scope_id,
        "writer": write.writer_id,
        "sequence": write.sequence,
    }
    queues.put(url, "tracker.dead", queues.envelope(write), headers=headers)


def wait_dead(url: str, count: int) -> None:
    """Returns when so many letters lie on the dead-letter queue."""
    arrived = wait_until(lambda: queues.waiting(url, "tracker.dead") == count, 30, interval=0.1)
    assert arrived, (queues.waiting(url, "tracker.dead"), count)
