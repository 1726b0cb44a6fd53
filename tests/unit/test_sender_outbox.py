"""One journal on its way: what is read, acknowledged in any order, deleted when all of it has arrived, and closed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.unit.journals import IDENTITY, TIME, new_writer, row, rows_of, small
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client.journal import frames
from tracker_client.journal.frames import Method
from tracker_client.journal.reader import JournalReader
from tracker_client.journal.status import Connection, StatusPage
from tracker_client.journal.writer import JournalWriter
from tracker_client.sender import outbox as outbox_module
from tracker_client.sender.outbox import BATCHES_UNDER_WAY, Outbox, Outgoing


def _outbox(writer: JournalWriter) -> Outbox:
    return Outbox(writer.folder, IDENTITY, JournalReader(writer.folder))


def _take(outbox: Outbox) -> list[Outgoing]:
    """As many as may be under way."""
    taken = []
    while (outgoing := outbox.next(probing=False)) is not None:
        taken.append(outgoing)
    return taken


def _batches(writer: JournalWriter, count: int) -> None:
    for step in range(count):
        writer.append({"a": step}, step, TIME)
        writer.end_batch()


def test_so_many_are_under_way_and_one_when_probing(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    _batches(writer, 10)
    outbox = _outbox(writer)
    assert outbox.next(probing=True) is not None
    assert outbox.next(probing=True) is None
    assert len(_take(outbox)) == BATCHES_UNDER_WAY - 1


def test_the_watermark_follows_acknowledgements_in_any_order(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    _batches(writer, 40)
    outbox = _outbox(writer)
    rng = random.Random(3)
    under_way, arrived = _take(outbox), set()
    while under_way:
        outgoing = under_way.pop(rng.randrange(len(under_way)))
        outbox.acknowledge(outgoing, f"token {outgoing.batch.sequence}")
        arrived.add(outgoing.batch.sequence)
        watermark = next(n for n in range(1, 42) if n not in arrived) - 1
        assert outbox.status.acknowledged == outbox.status.points == watermark
        assert outbox.status.write_token == f"token {outgoing.batch.sequence}"
        under_way += _take(outbox)
    assert outbox.status.acknowledged == 40


def test_what_was_not_taken_is_sent_again_before_what_comes_after_it(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    _batches(writer, 8)
    outbox = _outbox(writer)
    first = _take(outbox)
    requests = [outbox.request(each) for each in first]
    for each in first[1:3]:
        outbox.return_(each)
    again = _take(outbox)
    assert [each.batch.sequence for each in again] == [2, 3]
    assert [outbox.request(each) for each in again] == requests[1:3]
    assert [each.tries for each in again] == [2, 2]


def test_segments_go_when_everything_of_them_has_arrived_and_no_sooner(tmp_path: Path) -> None:
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(1000):
            writer.append({"a": step}, step, TIME)
        writer.close()
    outbox = _outbox(writer)
    rng = random.Random(5)
    arrived: set[int] = set()
    of_segment: dict[int, set[int]] = {}
    under_way = _take(outbox)
    while under_way:
        for each in under_way:
            of_segment.setdefault(each.batch.segment, set()).add(each.batch.sequence)
        outgoing = under_way.pop(rng.randrange(len(under_way)))
        outbox.acknowledge(outgoing, "")
        arrived.add(outgoing.batch.sequence)
        present = set(writer.folder.segment_numbers())
        for number, sequences in of_segment.items():
            if not sequences <= arrived:
                assert number in present
        under_way += _take(outbox)
    assert len(of_segment) > 5
    assert writer.folder.segment_numbers()[0] == max(of_segment)


def test_what_an_earlier_sender_has_sent_is_not_sent_again(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    _batches(writer, 12)
    outbox = _outbox(writer)
    under_way = _take(outbox)
    for each in (under_way[0], under_way[1], under_way[3]):
        outbox.acknowledge(each, "t")
    outbox.publish(Connection.CONNECTED, "", last_contact=1.0, stop_requested=False)
    outbox.close()
    following = _outbox(writer)
    assert [each.batch.sequence for each in _take(following)] == [3, 4, 5, 6]
    assert following.status.points == 2
    assert following.status.connection is Connection.UNKNOWN


def test_what_is_refused_is_put_aside_and_a_void_write_sent_for_it(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    writer.append({"a": 1.0, "b": 2.0}, 0, TIME)
    writer.close()
    outbox = _outbox(writer)
    (outgoing,) = _take(outbox)
    method, request = outbox.request(outgoing)
    outbox.refuse(outgoing, "INVALID_ARGUMENT wrong", tmp_path)
    stem = tmp_path / "refused" / f"run-1~{IDENTITY.writer_id}~1"
    assert stem.with_name(f"{stem.name}.{method}").read_bytes() == request
    assert stem.with_name(f"{stem.name}.reason").read_text() == "INVALID_ARGUMENT wrong\n"
    assert outbox.wants_close() is None
    (again,) = _take(outbox)
    void = calls.LogMetricsRequest.FromString(outbox.request(again)[1])
    assert (void.sequence, void.dropped_points, len(void.blocks)) == (1, 2, 0)
    outbox.acknowledge(again, "")
    assert (outbox.status.refused, outbox.status.acknowledged) == (1, 1)
    assert outbox.next(probing=False) is None
    assert outbox.wants_close() == 1


def test_what_cannot_be_put_aside_stays_in_the_journal_until_it_can(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    _batches(writer, 2)
    writer.close()
    writer.release()
    blocked = tmp_path / "refused"
    blocked.write_text("in the way")
    outbox = _outbox(writer)
    first, second = _take(outbox)
    outbox.refuse(first, "wrong", tmp_path)
    outbox.acknowledge(second, "")
    outbox.look()
    assert _take(outbox) == []
    assert outbox.wants_close() is None
    assert outbox.pending
    blocked.unlink()
    outbox.look()
    (again,) = _take(outbox)
    assert again.void
    outbox.acknowledge(again, "")
    assert outbox.wants_close() == 2


@pytest.mark.parametrize("closes", [True, False])
def test_the_writer_is_closed_when_all_has_arrived(tmp_path: Path, closes: bool) -> None:
    """By itself, or for a process that has died."""
    writer, _ = new_writer(tmp_path)
    _batches(writer, 3)
    writer.message(Method.UPDATE_RUN, lambda _: b"")
    if closes:
        writer.close()
    writer.release()
    outbox = _outbox(writer)
    under_way = _take(outbox)
    assert [each.batch.sequence for each in under_way] == [1, 2, 3, 4]
    assert outbox.wants_close() is None
    for each in under_way:
        outbox.acknowledge(each, "")
    assert outbox.next(probing=False) is None
    assert outbox.wants_close() == 4
    assert outbox.wants_close() is None
    outbox.close_failed()
    assert outbox.wants_close() == 4
    assert (outbox.pending, outbox.status.closed) == (True, False)
    outbox.closed("last token")
    assert (outbox.pending, outbox.status.closed) == (False, True)
    outbox.remove()
    assert not writer.folder.path.exists()


def test_after_a_restart_of_the_machine_a_dead_writer_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had not reached the disk is lost, and nobody knows how much that was."""
    writer, _ = new_writer(tmp_path)
    _batches(writer, 1)
    writer.release()
    monkeypatch.setattr(outbox_module, "present_boot", lambda: "another")
    outbox = _outbox(writer)
    (only,) = _take(outbox)
    outbox.acknowledge(only, "")
    assert outbox.next(probing=False) is None
    assert outbox.wants_close() is None
    assert not outbox.pending


def test_a_process_that_died_before_it_had_written_anything_leaves_nothing_to_close(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    writer.release()
    outbox = _outbox(writer)
    assert outbox.next(probing=False) is None
    assert outbox.wants_close() is None
    assert not outbox.pending


def test_a_writer_is_closed_with_its_last_sequence_though_its_segments_are_gone(tmp_path: Path) -> None:
    """A sender has sent and deleted them, without the chance to say so."""
    with small():
        writer, _ = new_writer(tmp_path)
        while writer._segment.number == 1:
            writer.append({"a": 1.0}, 0, TIME)
        sequence = writer._sequence
        writer.release()
    header, _ = frames.decode_segment_header(writer.folder.segment_path(2).read_bytes()) or (None, 0)
    assert header is not None
    with writer.folder.segment_path(2).open("r+b") as file:
        # Nothing but the header has reached the disk.
        file.truncate(len(header.encode()))
    writer.folder.segment_path(1).unlink()
    outbox = _outbox(writer)
    assert _take(outbox) == []
    assert outbox.wants_close() == sequence - 1


def test_what_a_living_process_has_not_closed_is_not_drained(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    _batches(writer, 1)
    outbox = _outbox(writer)
    assert (outbox.owned, len(_take(outbox))) == (True, 1)
    assert (outbox.drained, outbox.pending) == (False, True)
    writer.append({"a": 5.0}, 9, TIME)
    writer.release()
    outbox.look()
    (last,) = _take(outbox)
    assert rows_of(last.batch) == [row({"a": 5.0}, 9)]
    assert (outbox.drained, outbox.replay) == (True, False)


def test_what_is_found_without_an_owner_is_sent_as_history(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    made = calls.UpdateRunRequest(run_id="run-1", sequence=1)
    writer.message(Method.UPDATE_RUN, lambda _: made.SerializeToString())
    _batches(writer, 1)
    writer.release()
    outbox = _outbox(writer)
    first, second = _take(outbox)
    assert calls.UpdateRunRequest.FromString(outbox.request(first)[1]).replay
    assert calls.LogMetricsRequest.FromString(outbox.request(second)[1]).replay


def test_a_write_of_the_experiment_is_followed_by_a_void_one_of_the_run(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    made = calls.UpdateExperimentRequest(experiment_id="e", sequence=1)
    writer.message(Method.UPDATE_EXPERIMENT, lambda _: made.SerializeToString())
    writer.release()
    outbox = _outbox(writer)
    (first,) = _take(outbox)
    method, request = outbox.request(first)
    assert (method, calls.UpdateExperimentRequest.FromString(request)) == ("UpdateExperiment", made)
    assert outbox.taken_apart(first)
    (second,) = _take(outbox)
    method, request = outbox.request(second)
    void = calls.LogMetricsRequest.FromString(request)
    assert (method, void.run_id, void.sequence, len(void.blocks), void.dropped_points) == (
        "LogMetrics",
        "run-1",
        1,
        0,
        0,
    )
    assert not outbox.taken_apart(second)
    outbox.acknowledge(second, "")
    assert outbox.wants_close() == 1


def test_segments_that_cannot_be_deleted_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small():
        writer, _ = new_writer(tmp_path)
        for step in range(300):
            writer.append({"a": step}, step, TIME)
        writer.close()
        writer.release()
    outbox = _outbox(writer)

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "unlink", forbidden)
    monkeypatch.setattr(Path, "unlink", forbidden)
    while under_way := _take(outbox):
        for each in under_way:
            outbox.acknowledge(each, "")
    assert outbox.wants_close() == outbox.status.acknowledged
    assert outbox.status.points == 300


def test_the_owner_sees_what_is_published(tmp_path: Path) -> None:
    writer, _ = new_writer(tmp_path)
    outbox = _outbox(writer)
    outbox.publish(Connection.REFUSED, "wrong key", last_contact=5.0, stop_requested=True)
    seen = writer.status.read()
    assert (seen.connection, seen.message, seen.last_contact, seen.beats) == (Connection.REFUSED, "wrong key", 5.0, 1)
    assert writer.status.stop_requested
    assert StatusPage(writer.folder.status_path).read() == seen
