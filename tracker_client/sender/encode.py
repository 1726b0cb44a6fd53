"""From a journal's batch to the bytes of a LogMetricsRequest, column by column, without a Python object per value.

Written by hand, since every way through protobuf's Python API makes one of each value. Rows lie in the journal as the
wire wants them: 64-bit little-endian; a column is every n-th of a block's items.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as calls
from tracker_client.journal.frames import Identity, Method
from tracker_client.journal.reader import Batch, Rows
from tracker_client.sender.blocks import split_blocks

_LENGTH_DELIMITED: Final = 2


def _tag(message: type, field: str) -> bytes:
    """The tag of a length-delimited field, a packed one for example."""
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]  # every message has one
    return bytes([number << 3 | _LENGTH_DELIMITED])


_BLOCKS: Final = _tag(calls.LogMetricsRequest, "blocks")
_STEPS: Final = _tag(data.MetricBlock, "steps")
_TIMES: Final = _tag(data.MetricBlock, "times_unix_ms")
_COLUMNS: Final = _tag(data.MetricBlock, "columns")
_NAME: Final = _tag(data.MetricColumn, "name")
_VALUES: Final = _tag(data.MetricColumn, "values")
_MESSAGES: Final[dict[Method, Any]] = {
    Method.START_RUN: calls.StartRunRequest,
    Method.UPDATE_RUN: calls.UpdateRunRequest,
    Method.RUN_COMPLETED: calls.RunCompletedRequest,
    Method.REWIND_RUN: calls.RewindRunRequest,
}


def encode_points(identity: Identity, batch: Batch, *, replay: bool) -> bytes:
    """The request of a batch of points, or of one that says how many points were dropped."""
    head = calls.LogMetricsRequest(
        run_id=identity.run_id,
        writer_id=identity.writer_id,
        sequence=batch.sequence,
        attempt=identity.attempt,
        dropped_points=batch.dropped,
        replay=replay,
    ).SerializeToString()
    return head + b"".join(_field(_BLOCKS, _block(rows)) for rows in split_blocks(batch))


def encode_message(batch: Batch, *, replay: bool) -> bytes:
    """The request of a batch that is one whole request: as it was given, but for the mark of a replay."""
    if not replay or batch.method is None:
        return batch.request
    if batch.method not in _MESSAGES:
        return batch.request
    request = _MESSAGES[batch.method].FromString(batch.request)
    request.replay = True
    return bytes(request.SerializeToString())


def encode_void(identity: Identity, sequence: int, dropped: int, *, replay: bool) -> bytes:
    """A write in place of one that was given up: it uses up the sequence, and says how many points are lost."""
    return encode_points(identity, Batch(sequence, 0, dropped=dropped), replay=replay)


def _block(rows: Rows) -> bytes:
    width = len(rows.names) + 2
    table = memoryview(b"".join(rows.rows)).cast("q")
    parts = [_field(_STEPS, _column(table, 0, width)), _field(_TIMES, _column(table, 1, width))]
    for index, name in enumerate(rows.names, 2):
        values = _field(_VALUES, _column(table, index, width))
        parts.append(_field(_COLUMNS, _field(_NAME, name.encode()) + values))
    return b"".join(parts)


def _column(table: memoryview, index: int, width: int) -> bytes:
    """Every width-th item from index on, bit by bit, whatever type it is of."""
    return table[index::width].tobytes()


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


if sys.byteorder != "little":
    raise ImportError("tracker_client runs on little-endian machines only: its journals are mapped as they are sent")
