"""The leases that a flush judges: which servers take writes, and which attempts have had no sign of life for too long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Connection, delete, or_, select

from tracker_server import limits
from tracker_server.model.leases import Lease, Marker, Presence, expired_before, follow
from tracker_server.model.run import AttemptState
from tracker_server.model.writes import LeaseMarker, Write
from tracker_server.partitions import partition_of
from tracker_server.store.bulk import Bulk
from tracker_server.store.run_book import RunBook
from tracker_server.store.tables import RUNNING, attempts, lease_markers

_Servers = Mapping[str, Presence]


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """What judging depends on."""

    partitions: int
    """How many there are."""
    lease: Lease


def judge(connection: Connection, bulk: Bulk, book: RunBook, markers: Sequence[Write], rules: LeaseRules) -> None:
    """Notes the markers, and marks those attempts of their partitions as lost that have outlived their leases.

    To be called under the locks of the markers' partitions, after all other writes of the flush were applied to the
    book. At most MAX_JUDGED_ATTEMPTS; the others wait for the next marker.
    """
    bounds = {
        partition: bound
        for partition, servers in _followed(connection, bulk, markers, rules).items()
        if (bound := expired_before(servers, rules.lease)) is not None
    }
    if not bounds:
        return
    candidates = list(islice(_candidates(connection, bounds, rules.partitions), limits.MAX_JUDGED_ATTEMPTS))
    book.load_more(connection, {run_id for run_id, _ in candidates})
    for run_id, number in candidates:
        run = book.runs.get(run_id)
        if run is None or run.purged:
            continue
        attempt = run.attempts[number]
        # What was read is older than this flush, which may have brought a sign of life, or the end.
        alive = _sign_of_life(attempt.last_seen_ms, attempt.first_accepted_ms) >= bounds[_partition(run_id, rules)]
        if attempt.status.key is None and not alive:
            run.lose(attempt, _lost_since(attempt, rules.lease))


def _followed(connection: Connection, bulk: Bulk, markers: Sequence[Write], rules: LeaseRules) -> dict[int, _Servers]:
    """The servers of the markers' partitions after these markers."""
    told: dict[int, list[Marker]] = {}
    for write in markers:
        body = write.body
        # Of another number of partitions, or not ours: its partition's lock may not be held.
        if isinstance(body, LeaseMarker) and body.partition == _partition(write.scope_id, rules):
            told.setdefault(body.partition, []).append(Marker(body.server_id, write.accepted_ms, body.interrupted))
    before: dict[int, dict[str, Presence]] = {partition: {} for partition in told}
    if told:
        query = select(lease_markers).where(lease_markers.c.partition.in_(sorted(told)))
        for row in connection.execute(query):
            before[row.partition][row.server_id] = Presence(row.since_ms, row.last_ms)
    after: dict[int, _Servers] = {}
    for partition in sorted(told):
        servers: _Servers = before[partition]
        for marker in told[partition]:
            servers = follow(servers, marker, rules.lease)
        _save(connection, bulk, partition, before[partition], servers)
        after[partition] = servers
    return after


def _save(connection: Connection, bulk: Bulk, partition: int, before: _Servers, after: _Servers) -> None:
    gone = sorted(before.keys() - after.keys())
    if gone:
        connection.execute(
            delete(lease_markers).where(lease_markers.c.partition == partition, lease_markers.c.server_id.in_(gone))
        )
    bulk.upsert(
        connection,
        lease_markers,
        [
            {"partition": partition, "server_id": name, "since_ms": known.since_ms, "last_ms": known.last_ms}
            for name, known in sorted(after.items())
            if known != before.get(name)
        ],
    )


def _candidates(connection: Connection, bounds: Mapping[int, int], partitions: int) -> Iterable[tuple[str, int]]:
    """Attempts of these partitions that had outlived their leases before this flush."""
    latest = max(bounds.values())
    seen, accepted = attempts.c.last_seen_ms, attempts.c.first_accepted_ms
    query = select(attempts.c.run_id, attempts.c.attempt, seen, accepted).where(
        RUNNING, seen < latest, or_(seen != limits.MIN_TIME_MS, accepted < latest)
    )
    with connection.execute(query) as rows:
        for run_id, number, last_seen_ms, first_accepted_ms in rows:
            bound = bounds.get(partition_of(run_id, partitions))
            if bound is not None and _sign_of_life(last_seen_ms, first_accepted_ms) < bound:
                yield run_id, number


def _sign_of_life(last_seen_ms: int, first_accepted_ms: int) -> int:
    """From when its lease runs: one that only replays have told of gets the time of one lease for its end to come too."""
    return first_accepted_ms if last_seen_ms == limits.MIN_TIME_MS else last_seen_ms


def _lost_since(attempt: AttemptState, lease: Lease) -> int:
    """The end of its lease; of one that was never seen alive, the time of the last point that it logged."""
    return attempt.last_heard_ms if attempt.never_seen else attempt.last_seen_ms + lease.length_ms


def _partition(scope_id: str, rules: LeaseRules) -> int:
    return partition_of(scope_id, rules.partitions)
