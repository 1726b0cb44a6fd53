"""The internal messages that stand in for public ones have the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import MetricBlock, MetricColumn, MetricSeries

int64s = st.integers(-(2**63), 2**63 - 1)
doubles = st.floats(width=64)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)

PAIRS: list[tuple[type[Message], type[Message]]] = [
    (internal.PackedLogMetrics, public.LogMetricsRequest),
    (internal.PackedBlock, MetricBlock),
    (internal.PackedColumn, MetricColumn),
    (internal.PackedSeries, MetricSeries),
    (internal.PackedHistory, public.GetMetricHistoryResponse),
]
SHADOWS = {shadow.DESCRIPTOR.full_name: original.DESCRIPTOR.full_name for shadow, original in PAIRS}


@st.composite
def blocks(draw: st.DrawFn) -> MetricBlock:
    rows = draw(st.integers(1, 40))
    times = draw(st.one_of(st.just([]), st.lists(int64s, min_size=rows, max_size=rows)))
    columns = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return MetricBlock(
        steps=draw(st.lists(int64s, min_size=rows, max_size=rows)),
        times_unix_ms=times,
        columns=[
            MetricColumn(name=name, values=draw(st.lists(doubles, min_size=rows, max_size=rows))) for name in columns
        ],
    )


def joined(parts: list[bytes]) -> bytes:
    assert len(parts) <= 1, "one array, in one piece"
    return b"".join(parts)


@given(st.lists(blocks(), max_size=4), st.integers(0, 2**63 - 1))
def test_a_request_read_as_arrays_is_the_same(given_blocks: list[MetricBlock], dropped: int) -> None:
    request = public.LogMetricsRequest(
        run_id="run",
        writer_id="w" * 16,
        sequence=3,
        attempt=4,
        blocks=given_blocks,
        dropped_points=dropped,
        replay=True,
    )
    packed = internal.PackedLogMetrics.FromString(request.SerializeToString())
    assert packed.dropped_points == dropped
    assert len(packed.blocks) == len(given_blocks)
    for block, original in zip(packed.blocks, given_blocks, strict=True):
        assert np.frombuffer(joined(list(block.steps)), "<i8").tolist() == list(original.steps)
        assert np.frombuffer(joined(list(block.times_unix_ms)), "<i8").tolist() == list(original.times_unix_ms)
        assert [column.name for column in block.columns] == [column.name for column in original.columns]
        for column, other in zip(block.columns, original.columns, strict=True):
            assert column.values == np.array(other.values, "<f8").tobytes()


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, list[int], list[int], list[float], int, bool]]:
    count = draw(st.integers(0, 4))
    series = []
    for _ in range(count):
        rows = draw(st.integers(0, 30))
        whole = st.lists(int64s, min_size=rows, max_size=rows)
        values = draw(st.lists(doubles, min_size=rows, max_size=rows))
        total = draw(st.integers(0, 2**63 - 1))
        series.append((draw(names), draw(names), draw(whole), draw(whole), values, total, draw(st.booleans())))
    return series


@given(histories(), names)
def test_an_answer_made_of_arrays_is_the_same(
    given_series: list[tuple[str, str, list[int], list[int], list[float], int, bool]], token: str
) -> None:
    packed = internal.PackedHistory(next_page_token=token)
    expected = public.GetMetricHistoryResponse(next_page_token=token)
    for run_id, name, steps, times, values, total, downsampled in given_series:
        packed.series.add(
            run_id=run_id,
            name=name,
            steps=np.array(steps, "<i8").tobytes(),
            times_unix_ms=np.array(times, "<i8").tobytes(),
            values=np.array(values, "<f8").tobytes(),
            total_points=total,
            downsampled=downsampled,
        )
        expected.series.add(
            run_id=run_id, name=name, steps=steps, times_unix_ms=times, values=values, total_points=total,
            downsampled=downsampled,
        )  # fmt: skip
    assert packed.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@settings(max_examples=30)
@given(st.binary(max_size=64))
def test_nothing_that_the_public_message_takes_confuses_the_internal_one(body: bytes) -> None:
    try:
        request = public.LogMetricsRequest.FromString(body)
    except Exception:  # noqa: BLE001  # whatever it is, such a request goes no further
        return
    internal.PackedLogMetrics.FromString(request.SerializeToString())


@pytest.mark.parametrize(("shadow", "original"), PAIRS)
def test_field_numbers_and_wire_types_match(shadow: type[Message], original: type[Message]) -> None:
    originals = original.DESCRIPTOR.fields_by_number
    for field in shadow.DESCRIPTOR.fields:
        other = originals[field.number]
        assert field.name == other.name
        if field.message_type:
            assert other.message_type
            assert other.message_type.full_name == SHADOWS[field.message_type.full_name]
            assert field.is_repeated == other.is_repeated
        elif field.type == FieldDescriptor.TYPE_BYTES:
            assert other.is_repeated
            assert other.is_packed
            assert other.type in {FieldDescriptor.TYPE_SFIXED64, FieldDescriptor.TYPE_DOUBLE}
        else:
            assert (field.type, field.is_repeated) == (other.type, other.is_repeated)


def test_answers_leave_out_no_field() -> None:
    for shadow, original in PAIRS[1:]:
        assert set(shadow.DESCRIPTOR.fields_by_number) == set(original.DESCRIPTOR.fields_by_number)
