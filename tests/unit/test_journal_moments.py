"""A signal handler at each single moment at which one can come: Python runs them as calls begin and end."""

from __future__ import annotations

import gc
import itertools
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.unit.journals import TIME, new_writer, read_all, rows_of, small
from tracker_client.journal.frames import Method
from tracker_client.journal.writer import JournalWriter


@pytest.fixture(autouse=True)
def _quiet_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class _Stop(Exception):
    pass


def _at_moment(moment: int, handler: Callable[[], object], action: Callable[[], object]) -> bool:
    """Runs the action, and the handler at its so-and-so-many-th moment; whether it had so many."""
    passed = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal passed
        if event in ("call", "return", "c_return", "c_exception"):
            passed += 1
            if passed == moment:
                sys.setprofile(None)
                handler()

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return passed >= moment


def _fill(writer: JournalWriter) -> int:
    """Logs until one of the next few rows needs another segment; how many rows."""
    for taken in itertools.count(1):
        before = writer._offset
        writer.append({"a": float(taken - 1)}, taken - 1, TIME)
        if writer._room() < 2 * (writer._offset - before):
            return taken
    raise AssertionError


@pytest.mark.parametrize("returns", [True, False])
def test_the_end_of_a_journal_at_any_moment_of_a_change_of_segment(tmp_path: Path, returns: bool) -> None:
    for moment in itertools.count(1):
        with small(segment_bytes=4096, batch_bytes=512):
            writer, _ = new_writer(tmp_path / str(moment))
            taken = _fill(writer)
            ended: list[int] = []

            def handler(writer: JournalWriter = writer, ended: list[int] = ended) -> None:
                if not returns:
                    writer.interrupt()
                writer.message(Method.RUN_COMPLETED, lambda sequence: b"%d" % sequence)
                ended.append(writer.close())
                if not returns:
                    raise _Stop

            def action(writer: JournalWriter = writer, taken: int = taken) -> None:
                for number in range(taken, taken + 3):
                    writer.append({"a": float(number)}, number, TIME)

            try:
                came = _at_moment(moment, handler, action)
            except (struct.error, ValueError, IndexError, _Stop):
                came = True  # the journal went away under it
            batches = read_all(writer.folder)
            writer.release()
        if not came:
            break
        assert [batch.sequence for batch in batches] == list(range(1, ended[0] + 1)), moment
        assert batches[-1].request == b"%d" % ended[0]
        values = [struct.unpack_from("<d", bits, 16)[0] for batch in batches for _, bits in rows_of(batch)]
        assert values == list(range(len(values)))
        assert len(values) >= taken
    assert moment > 50
