"""The records of a `.wandb` file: framed as LevelDB frames its log, each a message of W&B's `wandb_internal.proto`.

The wandb package ships no reader since it lost its `DataStore`, and needs 60 MB for its messages. The few fields that
matter here are described below instead, by the numbers that they have in that file; all others are skipped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import DecodeError

from tracker_client.importers.records import ReadError

HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_BLOCK_BYTES = 32 * 1024
_FRAME = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

_SCHEMA: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Record": {
        2: ("history", "History"),
        3: ("summary", "Summary"),
        5: ("config", "Config"),
        7: ("stats", "Stats"),
        17: ("run", "Run"),
        18: ("exit", "Exit"),
    },
    "Item": {1: ("key", "string"), 2: ("nested_key", "string*"), 16: ("value_json", "string")},
    "Moment": {1: ("seconds", "int64"), 2: ("nanos", "int32")},
    "Step": {1: ("num", "int64")},
    "History": {1: ("item", "Item*"), 2: ("step", "Step")},
    "Summary": {1: ("update", "Item*"), 2: ("remove", "Item*")},
    "Config": {1: ("update", "Item*"), 2: ("remove", "Item*")},
    "Stats": {2: ("timestamp", "Moment"), 3: ("item", "Item*")},
    "Exit": {1: ("exit_code", "int32"), 2: ("runtime", "int32")},
    "Run": {
        1: ("run_id", "string"),
        2: ("entity", "string"),
        3: ("project", "string"),
        4: ("config", "Config"),
        5: ("summary", "Summary"),
        6: ("run_group", "string"),
        7: ("job_type", "string"),
        8: ("display_name", "string"),
        9: ("notes", "string"),
        10: ("tags", "string*"),
        17: ("start_time", "Moment"),
    },
}
"""Message to number to name and type; * is repeated."""
_PRIMITIVES = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
}
_PACKAGE = "tracker_client.wandb"


def read_records(path: Path) -> Iterator[Any]:
    """Each message `Record` of a file; a text tells of a place that is damaged, after which the next block is tried.

    Raises ReadError when the file is no `.wandb` file, and OSError.
    """
    record = _record_type()
    for data in _frames(path):
        if isinstance(data, str):
            yield data
            continue
        try:
            yield record.FromString(data)
        except DecodeError:
            yield "a record is no message of W&B; left out"


def _frames(path: Path) -> Iterator[bytes | str]:
    parts: list[bytes] | None = None
    with path.open("rb") as file:
        block = file.read(_BLOCK_BYTES)
        if not block.startswith(HEADER):
            raise ReadError(f"{path} does not begin as .wandb files do")
        offset, start = len(HEADER), 0
        while block:
            while len(block) - offset >= _FRAME.size:
                checksum, length, kind = _FRAME.unpack_from(block, offset)
                data = block[offset + _FRAME.size : offset + _FRAME.size + length]
                if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
                    yield f"cut off or damaged at byte {start + offset}; left out up to the next block"
                    parts, offset = None, len(block)
                    break
                offset += _FRAME.size + length
                if kind in (_FULL, _FIRST):
                    parts = []
                if parts is not None:
                    parts.append(data)
                if kind in (_FULL, _LAST) and parts is not None:
                    yield b"".join(parts)
                    parts = None
            if len(block) < _BLOCK_BYTES and offset < len(block):
                yield f"cut off at byte {start + offset}, within a record's head"
            start += len(block)
            block, offset = file.read(_BLOCK_BYTES), 0
    if parts is not None:
        yield f"cut off at byte {start}, within a record"


@cache
def _record_type() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="tracker_client/wandb_records.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for number, (name, kind) in fields.items():
            label = FieldDescriptorProto.LABEL_REPEATED if kind.endswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            kind = kind.removesuffix("*")
            if kind in _PRIMITIVES:
                field.type = _PRIMITIVES[kind]
            else:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Record"))
