"""Ids that follow from sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_client.importers.identity import id_from_key, id_from_text, readable_parts, writer_id

ID = re.compile("[A-Za-z0-9._-]{1,128}")


@given(st.text())
def test_any_text_gives_an_id(text: str) -> None:
    assert ID.fullmatch(id_from_text(text))
    assert ID.fullmatch(id_from_key([text], text))


@pytest.mark.parametrize("text", ["mnist", "a.b_c-1", "x" * 128])
def test_a_text_that_can_be_an_id_is_one(text: str) -> None:
    assert id_from_text(text) == text


def test_texts_that_differ_only_where_an_id_cannot_give_different_ids() -> None:
    ids = [id_from_text(text) for text in ("my exp", "my-exp", "my/exp", "my  exp", "", "-", "x" * 129, "x" * 130)]
    assert len(set(ids)) == len(ids)
    assert ids[0].startswith("my-exp-")


def test_writers_differ_by_source_content_and_attempt() -> None:
    ids = {writer_id(*one) for one in (("a", "b", 1), ("a", "b", 2), ("a", "c", 1), ("ab", "", 1), ("b", "b", 1))}
    assert len(ids) == 5
    assert writer_id("a", "b", 1) == writer_id("a", "b", 1)


def test_a_path_is_known_by_the_last_parts_that_tell_something() -> None:
    generic = ("metrics",)
    assert readable_parts(Path("/home/logs/lightning/version_3/metrics.csv"), generic) == [
        "logs",
        "lightning",
        "version_3",
    ]
    assert readable_parts(Path("/a/mine.csv"), generic) == ["a", "mine"]
    assert readable_parts(Path("/metrics.csv"), generic) == ["root"]
