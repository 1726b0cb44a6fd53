"""The frames of one segment, read from its file while its process may still be writing it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final
from zlib import crc32

from tracker_client.journal import frames
from tracker_client.journal.folder import JournalFolder
from tracker_client.journal.frames import FRAME_HEADER, PREFIX, SegmentHeader

_WINDOW: Final = 128 * 1024
"""Bytes read at a time."""
_LONGEST_HEADER: Final = 4096
_PAGE: Final = 4096
_ZERO_PAGE: Final = bytes(_PAGE)
_ZEROS: Final = bytes(FRAME_HEADER.size)


class SegmentReader:
    """Goes through a segment once, from its first frame to its last."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        try:
            found = frames.decode_segment_header(os.pread(descriptor, _LONGEST_HEADER, 0))
        except BaseException:
            os.close(descriptor)
            raise
        self.header: SegmentHeader | None = None
        """What it says of itself; None when it was not begun yet, or its beginning is spoilt."""
        self.skipped = 0
        """Bytes passed over because they were not readable."""
        self._offset = 0
        if found is not None:
            self.header, self._offset = found

    @classmethod
    def open(cls, folder: JournalFolder, number: int) -> SegmentReader | None:
        """The n-th segment, or None when it is not there. Raises OSError."""
        try:
            return cls(os.open(folder.segment_path(number), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def frames(self, *, final: bool) -> Iterator[bytes]:
        """The payloads of the frames that follow what was read before.

        final: nothing will be written any more, so what is not whole never will be, and is passed over.
        """
        while True:
            if os.pread(self._descriptor, FRAME_HEADER.size, self._offset) not in (b"", _ZEROS):
                yield from self._whole_frames()
            if not final or not self._seek_frame():
                return

    def _whole_frames(self) -> Iterator[bytes]:
        """Frame after frame, as long as they are whole."""
        while True:
            window = os.pread(self._descriptor, _WINDOW, self._offset)
            begin = position = 0
            last = len(window) - FRAME_HEADER.size
            while position <= last:
                length, checksum = FRAME_HEADER.unpack_from(window, position)
                begin = position + FRAME_HEADER.size
                payload = window[begin : begin + length]
                if length < PREFIX.size or len(payload) != length or crc32(payload) != checksum:
                    break
                size = frames.frame_size(length)
                position += size
                self._offset += size
                yield payload
            if position == 0:
                large = self._payload_at(self._offset)
                if large is None:
                    return
                self._offset += frames.frame_size(len(large))
                yield large

    def _payload_at(self, offset: int) -> bytes | None:
        """The payload of the frame at this place, however large, if there is a whole one."""
        header = os.pread(self._descriptor, FRAME_HEADER.size, offset)
        if len(header) < FRAME_HEADER.size:
            return None
        length, checksum = FRAME_HEADER.unpack(header)
        if not PREFIX.size <= length <= frames.LARGEST_FRAME:
            return None
        payload = os.pread(self._descriptor, length, offset + FRAME_HEADER.size)
        return payload if len(payload) == length and crc32(payload) == checksum else None

    def _seek_frame(self) -> bool:
        """Goes on to the next place where a whole frame is; False when there is none."""
        start = self._offset
        window_at = frames.aligned(start + 1)
        while window := os.pread(self._descriptor, _WINDOW, window_at):
            for position in _candidates(window):
                if self._payload_at(window_at + position) is not None:
                    self._offset = window_at + position
                    self.skipped += self._offset - start
                    return True
            if len(window) < _WINDOW:
                break
            window_at += _WINDOW
        return False


def _candidates(window: bytes) -> Iterator[int]:
    """Aligned positions at which a frame's header may be: not zeros, and of a length that can be."""
    position = 0
    last = len(window) - FRAME_HEADER.size
    while position <= last:
        if window[position : position + _PAGE] == _ZERO_PAGE:
            position += _PAGE
            continue
        length, checksum = FRAME_HEADER.unpack_from(window, position)
        if PREFIX.size <= length <= frames.LARGEST_FRAME and checksum:
            yield position
        position += frames.ALIGNMENT
