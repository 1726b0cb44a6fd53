"""Many rows in one statement, for SQLite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, text
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tracker_server.store.bulk import NumberedChunks, Row
from tracker_server.store.offsets import narrow
from tracker_server.store.tables import partition_revisions, run_revisions


class SqliteBulk:
    """bulk.Bulk for SQLite: one writer, so nothing to lock."""

    def lock_partitions(self, connection: Connection, partitions: Sequence[int]) -> None:
        """The transaction began IMMEDIATE: it is the only writer there is."""

    def lock_chunks(self, connection: Connection, run_id: str) -> None:
        """As lock_partitions."""

    def begin_compaction(self, connection: Connection, run_id: str) -> bool:  # noqa: ARG002  # for bulk.Bulk
        """As lock_partitions."""
        return True

    def rows_by_names(
        self, connection: Connection, table: Table, run_id: str, names: Sequence[str]
    ) -> Sequence[Mapping[str, Any]]:
        """See bulk.Bulk."""
        wanted = select(text("value")).select_from(func.json_each(bindparam("names")))
        query = select(table).where(table.c.run_id == run_id, table.c.name.in_(wanted))
        return [dict(row) for row in connection.execute(query, {"names": json.dumps(list(names))}).mappings()]

    def insert_missing(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See bulk.Bulk."""
        if rows:
            connection.execute(sqlite_insert(table).on_conflict_do_nothing(), [dict(row) for row in rows])

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See bulk.Bulk."""
        if not rows:
            return
        statement = sqlite_insert(table)
        keys = [column.name for column in table.primary_key]
        changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
        connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_=changed), [dict(row) for row in rows]
        )

    def update(
        self, connection: Connection, table: Table, rows: Sequence[Row], expect: str = "", expected: Sequence[Any] = ()
    ) -> int:
        """See bulk.Bulk."""
        if not rows:
            return 0
        keys = [column.name for column in table.primary_key]
        # The prefix keeps the parameters of WHERE apart from those of SET.
        statement = table.update().values({name: bindparam(name) for name in rows[0] if name not in keys})
        for key in keys:
            statement = statement.where(table.c[key] == bindparam(f"key_{key}"))
        parameters = [{(f"key_{name}" if name in keys else name): value for name, value in row.items()} for row in rows]
        if expect:
            statement = statement.where(table.c[expect] == bindparam("expected"))
            for one, value in zip(parameters, expected, strict=True):
                one["expected"] = value
        return connection.execute(statement, parameters).rowcount

    def revise(self, connection: Connection, runs: Mapping[int, Sequence[str]]) -> Mapping[int, int]:
        """See bulk.Bulk."""
        first = sqlite_insert(partition_revisions)
        raised = {"revision": partition_revisions.c.revision + 1}
        connection.execute(
            first.on_conflict_do_update(index_elements=["partition"], set_=raised),
            [{"partition": partition, "revision": 1} for partition in runs],
        )
        found = select(partition_revisions.c.partition, partition_revisions.c.revision)
        revisions = {partition: revision for partition, revision in connection.execute(found) if partition in runs}
        self.upsert(
            connection,
            run_revisions,
            [
                {"run_id": run_id, "partition": partition, "revision": revisions[partition]}
                for partition, run_ids in runs.items()
                for run_id in run_ids
            ],
        )
        return revisions

    def insert_chunks(self, connection: Connection, table: Table, chunks: Sequence[NumberedChunks]) -> None:
        """See bulk.Bulk."""
        connection.execute(
            insert(table),
            [row for numbered in chunks for row in _chunk_rows(numbered, digests="finite_count" in table.c)],
        )


def _chunk_rows(numbered: NumberedChunks, *, digests: bool) -> list[Row]:
    group = numbered.group
    first_step, step_offsets, wide_steps = narrow(group.steps)
    first_ms, time_offsets, wide_times = narrow(group.times)
    shared = {
        "run_id": group.run_id,
        "attempt": group.attempt,
        "count": len(group.steps),
        "first_step": first_step,
        "last_step": int(group.steps[-1]),
        "first_ms": first_ms,
        "step_offsets": None if step_offsets is None else step_offsets.astype("<i4").tobytes(),
        "time_offsets": None if time_offsets is None else time_offsets.astype("<i4").tobytes(),
        "wide_steps": None if wide_steps is None else wide_steps.astype("<i8").tobytes(),
        "wide_times": None if wide_times is None else wide_times.astype("<i8").tobytes(),
        "origins": group.origins,
    }
    known: list[dict[str, Any]] = [{} for _ in group.names]
    if digests:
        known = [{"last_ms": int(group.times[-1]), **digest._asdict()} for digest in group.digests()]
    low, high = group.extremes()
    return [
        {
            **shared,
            "series_no": numbered.series_numbers[row],
            "chunk_no": numbered.chunk_numbers[row],
            "min_value": low[row],
            "max_value": high[row],
            "point_values": group.values[row].astype("<f8").tobytes(),
            **known[row],
        }
        for row in range(len(group.names))
    ]
