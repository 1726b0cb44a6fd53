"""Filters and orders as texts: what they mean, and where they are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.good_requests import GOOD
from tracker.v1 import tracker_service_pb2 as public
from tracker_server.errors import InvalidRequest
from tracker_server.filters.conditions import (
    All,
    Any,
    Compare,
    Condition,
    Contains,
    Mentions,
    Negation,
    Pattern,
    Present,
    condition_of,
    order_of,
)
from tracker_server.filters.fields import (
    BoolField,
    ConfigField,
    EntryField,
    FinalField,
    IntField,
    KeysField,
    MetricField,
    StatusField,
    TagsField,
    TextField,
    TimeField,
)
from tracker_server.filters.syntax import FilterError
from tracker_server.validation import validate

_LOSS = MetricField("val/loss", "last")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("", None),
        (" \n ", None),
        ("status = COMPLETED", Compare(StatusField(), "=", 2)),
        ("status != run_status_lost", Compare(StatusField(), "!=", 6)),
        ('metrics."val/loss".last < 0.1', Compare(_LOSS, "<", 0.1)),
        ("metrics.val/loss.last<-1e-3", Compare(_LOSS, "<", -0.001)),
        ("metrics.loss >= 4", Compare(MetricField("loss", "value"), ">=", 4.0)),
        ("metrics.a.b.count > 4", Compare(MetricField("a.b", "count"), ">", 4)),
        ("metrics:loss", Present(MetricField("loss", "value"))),
        ("final_metrics.acc = inf", Compare(FinalField("acc"), "=", float("inf"))),
        ("config.model.depth >= 4", Compare(ConfigField(("model", "depth")), ">=", 4)),
        ("config.lr = 1e-5", Compare(ConfigField(("lr",)), "=", 1e-5)),
        ('config.lr = "1e-5"', Compare(ConfigField(("lr",)), "=", "1e-5")),
        ("config.'my key'.\"x.y\" = true", Compare(ConfigField(("my key", "x.y")), "=", True)),
        ("config.x = null", Compare(ConfigField(("x",)), "=", None)),
        ("config.x:*", Present(ConfigField(("x",)))),
        ("config:x", Present(ConfigField(("x",)))),
        ("config.x:4", Any((Contains(ConfigField(("x",)), 4), Compare(ConfigField(("x",)), "=", 4)))),
        ("tags:baseline", Contains(TagsField(), "baseline")),
        ("tags:night*", Contains(TagsField(), Pattern("night", before=False, after=True))),
        (r'name = "a\*"', Compare(TextField("name"), "=", "a*")),
        ('name = "*a*"', Compare(TextField("name"), "=", Pattern("a", before=True, after=True))),
        ("name:resnet", Compare(TextField("name"), ":", "resnet")),
        ("group = g", Compare(TextField("run_group"), "=", "g")),
        ("metadata.gpu.type = A100", Compare(EntryField("metadata", "gpu.type"), "=", "A100")),
        ("metadata:gpu", Contains(KeysField("metadata"), "gpu")),
        ("attempt > 99999999999999999999", Compare(IntField("attempt"), ">", 1e20)),
        ("stop_requested = true", Compare(BoolField("stop_requested"), "=", True)),
        ('start_time > "1970-01-01T00:00:01Z"', Compare(TimeField("started_ms"), ">", 1000)),
        ("created_at < 1970-01-02", Compare(TimeField("created_ms"), "<", 86_400_000)),
        ("ended_at >= 1970-01-01T01:00:00.0019+01:00", Compare(TimeField("ended_ms"), ">=", 1)),
        ("resnet", Mentions("resnet")),
        ('"two words"', Mentions("two words")),
        ("a b", All((Mentions("a"), Mentions("b")))),
        # As AIP-160 says, OR binds more tightly than AND.
        ("a AND b OR c", All((Mentions("a"), Any((Mentions("b"), Mentions("c")))))),
        ("(a AND b) OR NOT c", Any((All((Mentions("a"), Mentions("b"))), Negation(Mentions("c"))))),
        ("-tags:x", Negation(Contains(TagsField(), "x"))),
        ("'AND'", Mentions("AND")),
    ],
)
def test_a_filter_means(text: str, condition: Condition | None) -> None:
    assert condition_of(text) == condition


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("status =", 9, "expected a quoted text or a value"),
        ("status = DONE", 10, "a status is one of RUNNING, COMPLETED"),
        ("status > LOST", 1, "a status is equal or not"),
        ("stauts = LOST", 1, "did you mean status?"),
        ("(name = x", 10, "expected )"),
        ("name = x)", 9, "expected the end"),
        ('name = "x', 8, "begins a quotation that does not end"),
        ("name == x", 6, "operator"),
        ("name = a, b", 9, ""),
        ("name = AND", 8, "is no value"),
        ("name = x and tags:y", 10, "write AND, or quote it"),
        ("metrics.loss < low", 16, "metrics.loss is a number"),
        ("metrics < 3", 1, "is metrics alone"),
        ("created_at > yesterday", 14, "2026-01-31"),
        ("stop_requested = maybe", 18, "is true or false"),
        ("tags = x", 1, "takes : only"),
        ("name.first = x", 1, "name has no parts"),
        ("config.a > true", 12, "it takes = and != only"),
        ("a..b = 1", 2, ""),
        ("config.d . x = 1", 10, ""),
        ("(" * 51 + "a" + ")" * 51, 52, "nested more than 50 levels"),
        (" OR ".join(["a"] * 101), 501, "at most 100"),
        (" AND ".join(f"metrics.m{n} < 1" for n in range(21)), 391, "at most 20"),
        ("config." + ".".join("k" * 33) + " = 1", 1, "32 levels"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, position: int, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(public.ListRunsRequest(filter=text))
    (violation,) = caught.value.violations
    assert violation.field == "filter"
    assert violation.description.startswith(f"at character {position}")
    assert said in violation.description


@pytest.mark.parametrize(
    ("text", "position"),
    [("name,", 1), ("name down", 1), ("tags", 1), ("created_at, nme", 13), (", ".join(["name"] * 9), 1)],
)
def test_a_wrong_order_is_pointed_at(text: str, position: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(public.ListRunsRequest(order_by=text))
    (violation,) = caught.value.violations
    assert violation.field == "order_by"
    assert violation.description.startswith(f"at character {position}")


def test_an_order_means() -> None:
    orders = order_of('metrics."val/loss".last DESC, config.lr asc,name')
    assert [(order.field, order.descending) for order in orders] == [
        (_LOSS, True),
        (ConfigField(("lr",)), False),
        (TextField("name"), False),
    ]


def _position(parse: Callable[[str], object], text: str) -> int:
    """Where it is wrong; 0 when it is not."""
    try:
        parse(text)
    except FilterError as error:
        return error.position
    return 0


_pieces = st.sampled_from(
    ["AND", "OR", "NOT", "-", "(", ")", ".", "=", "!=", "<", ">=", ":", "*", '"', "'", "\\", ",", " ", "\n", "status",
     "tags", "metrics", "config", "name", "0", "1e9", "nan", "LOST", "created_at", "2026-01-01", "ü", "\x00", "'; DROP"]
)  # fmt: skip
_texts = st.one_of(st.text(max_size=200), st.lists(st.one_of(_pieces, st.text(max_size=3)), max_size=60).map("".join))


@settings(max_examples=600, deadline=None)
@given(_texts)
def test_no_text_breaks_anything(text: str) -> None:
    for parse in (condition_of, order_of):
        assert 0 <= _position(parse, text) <= len(text)


@pytest.mark.parametrize(
    "piece", ["(", "-", "NOT ", "a OR ", "a AND (", "a.", '"', "config.", "\\", "a b ", "=", "'\\"]
)
def test_no_length_breaks_anything(piece: str) -> None:
    text = (piece * 10_000)[:10_000]
    assert 0 <= _position(condition_of, text) <= len(text)


def test_every_filter_of_the_page_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "finding.md").read_text(encoding="utf-8")
    filters = re.findall(r"^```filter\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in filters for line in block.splitlines()]
    assert len(lines) > 10
    for line in lines:
        assert condition_of(line) is not None
    good = GOOD["ListRuns"]
    assert isinstance(good, public.ListRunsRequest)
    assert condition_of(good.filter)
