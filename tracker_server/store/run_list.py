"""A page of runs: those that meet a condition, in the order asked for, from where the last page ended."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Float, Numeric, Select, Text, and_, cast, literal, or_, select, tuple_

from tracker_server.errors import InvalidRequest, Violation
from tracker_server.filters.conditions import Condition, Order
from tracker_server.filters.fields import TimeField
from tracker_server.model.records import MetricRecord, RunRecord
from tracker_server.store.json_values import Bool, Node, json_values
from tracker_server.store.metric_rows import metric_rows, renewed_states
from tracker_server.store.run_reader import RUN_COLUMNS, run_record
from tracker_server.store.run_search import ORDER_CHARACTERS, RunSearch, metric_names
from tracker_server.store.tables import runs, series
from tracker_server.store.visible import visible_runs

KeyValue: TypeAlias = "int | float | str | None"
"""What a run is ordered by; exact decimals as texts."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs, and in which order."""

    experiment_id: str = ""
    statuses: Collection[int] = ()
    condition: Condition | None = None
    order: Sequence[Order] = ()
    """Empty: newest first."""
    show_deleted: bool = False


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where a run stands in an order."""

    run_id: str
    created_ms: int
    keys: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run and where it stands."""

    record: RunRecord
    place: RunPlace


def find_runs(connection: Connection, query: RunQuery, after: RunPlace | None, size: int) -> list[FoundRun]:
    """At most so many runs, those that follow `after`. Raises InvalidRequest for a place that cannot be."""
    metrics = metric_rows(connection, metric_names(query.condition, query.order))
    search = RunSearch(json_values(connection.dialect.name), metrics)
    keys = [(key, order.descending) for order in _beyond_ties(query.order) for key in search.order_keys(order.field)]
    columns = [key.label(f"key_{number}") for number, (key, _) in enumerate(keys)]
    statement = select(runs.c.run_id, runs.c.created_ms, *columns).select_from(search.source()).limit(size)
    statement = statement.where(visible_runs(show_deleted=query.show_deleted))
    if query.experiment_id:
        statement = statement.where(runs.c.experiment_id == query.experiment_id)
    if query.statuses:
        statement = statement.where(runs.c.status.in_(sorted(query.statuses)))
    if query.condition is not None:
        statement = statement.where(search.holds(query.condition))
    statement = _by_keys(statement, keys, after)
    places = [_place(row) for row in connection.execute(statement)]
    # Whole rows are wide: those of a page are read only once it is known which they are.
    wanted = select(*RUN_COLUMNS).where(runs.c.run_id.in_([place.run_id for place in places]))
    records = {record.run_id: record for record in map(run_record, connection.execute(wanted))} if places else {}
    return [FoundRun(records[place.run_id], place) for place in places]


def metrics_of_runs(
    connection: Connection, run_ids: Sequence[str], names: Sequence[str]
) -> dict[str, list[MetricRecord]]:
    """What these runs have of these metrics, in the order of the names."""
    query = (
        select(series, runs.c.cuts.label("run_cuts"))
        .join(runs, runs.c.run_id == series.c.run_id)
        .where(series.c.run_id.in_(run_ids), series.c.name.in_(names))
    )
    found: dict[str, dict[str, MetricRecord]] = {run_id: {} for run_id in run_ids}
    for state in renewed_states(connection, connection.execute(query).mappings().all()):
        if state.totals.count or state.final is not None:
            found[state.run_id][state.name] = MetricRecord(state.name, state.totals, state.final)
    return {run_id: [known[name] for name in names if name in known] for run_id, known in found.items()}


def _beyond_ties(order: Sequence[Order]) -> Sequence[Order]:
    """Without what ties are ordered by anyway: an index has that order as it is, and no other."""
    while order and order[-1] == _NEWEST_FIRST:
        order = order[:-1]
    return order


def _by_keys(statement: Select[Any], keys: Sequence[tuple[Node, bool]], after: RunPlace | None) -> Select[Any]:
    """Ties, which without keys is all of them, are in the order of a list that no order was asked for: newest first."""
    if after is not None:
        _check(after, keys)
        follows: Bool = tuple_(runs.c.created_ms, runs.c.run_id) < (after.created_ms, after.run_id)
        for (key, descending), value in reversed(list(zip(keys, after.keys, strict=True))):
            follows = _follows(key, value, follows, descending=descending)
        statement = statement.where(follows)
    for key, descending in keys:
        statement = statement.order_by(key.is_(None), key.desc() if descending else key.asc())
    return statement.order_by(runs.c.created_ms.desc(), runs.c.run_id.desc())


def _check(after: RunPlace, keys: Sequence[tuple[Node, bool]]) -> None:
    """A token that nobody made may hold anything."""
    if len(after.keys) != len(keys) or not all(map(_can_be, (key for key, _ in keys), after.keys)):
        raise InvalidRequest([Violation("page_token", "is no token that a server made; take next_page_token as it is")])


def _can_be(key: Node, value: KeyValue) -> bool:
    """Whether a key may have had this value."""
    if value is None:
        return True
    if isinstance(value, str):
        if _is_exact(key):
            return _DECIMAL.fullmatch(value) is not None
        # Neither has a lone surrogate an encoding, nor does PostgreSQL take U+0000.
        clean = "\0" not in value and value.encode(errors="ignore").decode() == value
        return isinstance(key.type, Text) and clean and len(value) <= ORDER_CHARACTERS
    whole = isinstance(value, int)
    in_range = -(2**63) <= value < 2**63 if whole else not math.isnan(value)
    return in_range and not isinstance(key.type, Text) and not _is_exact(key)


def _is_exact(key: Node) -> bool:
    """Whether it is an exact decimal, which is kept as a text; doubles have a type of their own."""
    return isinstance(key.type, Numeric) and not isinstance(key.type, Float)


def _follows(key: Node, value: KeyValue, rest: Bool, *, descending: bool) -> Bool:
    if value is None:
        return and_(key.is_(None), rest)
    bound = _bound(key, value)
    beyond = key < bound if descending else key > bound
    return or_(key.is_(None), beyond, and_(key == bound, rest))


def _bound(key: Node, value: KeyValue) -> Node:
    return cast(literal(value, Text), Numeric) if _is_exact(key) else literal(value)


def _place(row: Sequence[Any]) -> RunPlace:
    values = tuple(row)
    keys = tuple(str(key) if isinstance(key, Decimal) else key for key in values[2:])
    return RunPlace(values[0], values[1], keys)


_NEWEST_FIRST: Final = Order(TimeField("created_ms"), descending=True)
_DECIMAL: Final = re.compile(r"-?(\d{1,400}(\.\d{1,400})?(E[+-]?\d{1,3})?|Infinity)", re.ASCII)
