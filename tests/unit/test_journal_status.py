"""The page between the sender and a journal's owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker_client.journal import status as status_module
from tracker_client.journal.status import Connection, Status, StatusPage

_FULL = Status(
    acknowledged=2**40,
    points=2**50,
    refused=3,
    connection=Connection.REFUSED,
    stop_requested=True,
    closed=True,
    beats=2**33,
    last_contact=1.7e9,
    message="wrong key 😀",
    write_token="token",
)


@pytest.fixture
def pages(tmp_path: Path) -> tuple[StatusPage, StatusPage]:
    """The sender's and the owner's."""
    return StatusPage(tmp_path / "status"), StatusPage(tmp_path / "status")


def test_a_new_page_says_nothing(pages: tuple[StatusPage, StatusPage]) -> None:
    assert pages[1].read() == Status()
    assert not pages[1].stop_requested


def test_what_one_side_writes_the_other_reads(pages: tuple[StatusPage, StatusPage]) -> None:
    sender, owner = pages
    sender.write(_FULL)
    assert owner.read() == _FULL
    assert owner.stop_requested
    sender.write(Status(acknowledged=1))
    assert owner.read() == Status(acknowledged=1)
    assert not owner.stop_requested


def test_a_next_sender_goes_on_where_the_last_one_was(pages: tuple[StatusPage, StatusPage], tmp_path: Path) -> None:
    pages[0].write(_FULL)
    pages[0].close()
    pages[0].close()
    assert StatusPage(tmp_path / "status").read() == _FULL


@pytest.mark.parametrize("status", [Status(stop_requested=True), Status(closed=True)])
def test_flags_are_told_apart(pages: tuple[StatusPage, StatusPage], status: Status) -> None:
    pages[0].write(status)
    assert pages[1].read() == status
    assert pages[1].stop_requested == status.stop_requested


def test_a_text_that_is_just_being_written_is_the_one_before(pages: tuple[StatusPage, StatusPage]) -> None:
    sender, owner = pages
    sender.write(Status(message="before"))
    assert owner.read().message == "before"
    start = status_module._MESSAGE_AT + status_module._TEXT_HEADER.size
    sender._map[start : start + 3] = b"aft"
    assert owner.read().message == "before"
    sender.write(Status(message="after it"))
    assert owner.read().message == "after it"


def test_long_texts_are_cut(pages: tuple[StatusPage, StatusPage]) -> None:
    pages[0].write(Status(message="é" * 5000, write_token="t" * 5000))
    read = pages[1].read()
    assert read.message == "é" * 512
    assert read.write_token == "t" * 1024


def test_a_page_of_rubbish_is_read_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(b"\xa7" * status_module.SIZE)
    read = StatusPage(tmp_path / "status").read()
    assert (read.connection, read.message, read.write_token) == (Connection.UNKNOWN, "", "")
