"""Which rows of a batch go into one block: all of a schema, as far as that leaves points that tie in their order.

Of points of one series with equal step and time, the one that stands later in the request is the later one. So a row must
not go into a block before one that has such a point, logged earlier.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tracker_client.journal.reader import Batch, Rows

EXTRA_BYTES: Final = 512 * 1024
"""Of names that are repeated for the sake of order; beyond that, ties may swap: a request must not get too large."""
_KEY_BYTES: Final = 16
"""Step and time, at a row's beginning."""
_COLUMN_OVERHEAD: Final = 12
_BLOCK_OVERHEAD: Final = 20


def split_blocks(batch: Batch) -> Collection[Rows]:
    """The rows of a batch by block; the same for the same batch, whenever it is asked."""
    families = _families(batch.groups) if len(batch.groups) > 1 else {}
    return _in_order(batch, families) if families else batch.groups.values()


def _families(groups: dict[int, Rows]) -> dict[int, dict[bytes, int]]:
    """For each schema that shares a name with another: where the last block with a step and time is, for all akin to it."""
    owners: dict[str, int] = {}
    parents: dict[int, int] = {}

    def root(schema: int) -> int:
        while (above := parents.get(schema, schema)) != schema:
            schema = above
        return schema

    for schema, rows in groups.items():
        for name in rows.names:
            owner = owners.setdefault(name, schema)
            if owner != schema:
                parents.setdefault(schema, schema)
                parents.setdefault(owner, owner)
                parents[root(schema)] = root(owner)
    last: dict[int, dict[bytes, int]] = {}
    return {schema: last.setdefault(root(schema), {}) for schema in parents}


def _in_order(batch: Batch, families: dict[int, dict[bytes, int]]) -> list[Rows]:
    blocks: list[Rows] = []
    current: dict[int, int] = {}
    rows = {schema: iter(group.rows) for schema, group in batch.groups.items()}
    left = EXTRA_BYTES
    for schema in batch.order:
        row = next(rows[schema])
        at = current.get(schema)
        last = families.get(schema)
        if at is None:
            at = current[schema] = len(blocks)
            blocks.append(Rows(batch.groups[schema].names))
        elif last is not None and last.get(row[:_KEY_BYTES], -1) > at:
            left -= _names_bytes(blocks[at].names)
            if left >= 0:
                at = current[schema] = len(blocks)
                blocks.append(Rows(batch.groups[schema].names))
        blocks[at].rows.append(row)
        if last is not None:
            last[row[:_KEY_BYTES]] = at
    return blocks


def _names_bytes(names: tuple[str, ...]) -> int:
    return _BLOCK_OVERHEAD + _COLUMN_OVERHEAD * len(names) + sum(len(name.encode()) for name in names)
