"""Which partition a run or an experiment belongs to."""

from __future__ import annotations

import zlib


def partition_of(scope_id: str, count: int) -> int:
    """The partition, 0 to count - 1, of a run id or an experiment id.

    CRC-32 (zlib's) of the id in UTF-8, modulo count: the same in every process, version and language. Both the function
    and the count are fixed once a database holds data, since a partition's lock guards its runs' rows.
    """
    return zlib.crc32(scope_id.encode()) % count
