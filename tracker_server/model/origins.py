"""Where each point of a chunk came from: writer and sequence, to break ties of step and time in every order of arrival.

Encoded as stretches, three varints each: writer number, count * 2 + stride, first sequence. A stride of 1 means that
the sequence grows by one from point to point (a caller that sends single points), 0 that it stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tracker_server.model.points import Ints, Source


def encode_slices(
    sources: Sequence[Source],
    order: Ints | None,
    writer_numbers: Mapping[str, int],
    slices: Sequence[tuple[int, int]],
) -> list[bytes]:
    """Encodes points [start, stop) of a frame, for each of the slices."""
    if len(sources) == 1:
        number, sequence = writer_numbers[sources[0].writer_id], sources[0].sequence
        return [_stretch(number, stop - start, 0, sequence) for start, stop in slices]
    counts = [source.points for source in sources]
    writers = np.repeat(np.array([writer_numbers[source.writer_id] for source in sources], np.int64), counts)
    sequences = np.repeat(np.array([source.sequence for source in sources], np.int64), counts)
    if order is not None:
        writers, sequences = writers[order], sequences[order]
    return [encode_origins(writers[start:stop], sequences[start:stop]) for start, stop in slices]


def encode_origins(writers: Ints, sequences: Ints) -> bytes:
    """What `decode_origins` reads: at least one point."""
    growth = np.where(writers[1:] == writers[:-1], sequences[1:] - sequences[:-1], -1)
    total = len(writers)
    # The points at which the growth changes: a stretch ends at the first one after its start.
    changes = np.append(np.flatnonzero(growth[1:] != growth[:-1]) + 1, total - 1)
    out, start = [], 0
    while start < total:
        stride = int(growth[start]) if start < total - 1 else 0
        stop = (
            int(changes[np.searchsorted(changes, start, side="right")]) + 1
            if stride in (0, 1) and start < total - 1
            else start + 1
        )
        out.append(
            _stretch(int(writers[start]), stop - start, stride if stop > start + 1 else 0, int(sequences[start]))
        )
        start = stop
    return b"".join(out)


def decode_origins(data: bytes) -> tuple[Ints, Ints]:
    """Writer number and sequence of each point."""
    numbers = list(_varints(data))
    writers, sequences = [], []
    for writer, packed, first in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        count, stride = packed >> 1, packed & 1
        writers.append(np.full(count, writer, np.int64))
        sequences.append(first + stride * np.arange(count, dtype=np.int64))
    return np.concatenate(writers), np.concatenate(sequences)


def _stretch(writer: int, count: int, stride: int, sequence: int) -> bytes:
    return _varint(writer) + _varint(count * 2 + stride) + _varint(sequence)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varints(data: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            numbers.append(number)
            number, shift = 0, 0
    return numbers
