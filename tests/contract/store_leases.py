"""What a store promises of leases: judged by the markers of servers, in the order of the queue, and by no other clock."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.contract.store_databases import execute
from tests.contract.store_writes import COMPLETED, FAILED, RUN, T, complete, points, start, update, write
from tracker_server import limits
from tracker_server.lease_markers import scope_in
from tracker_server.model.leases import Lease
from tracker_server.model.status import Status
from tracker_server.model.writes import Body, CompleteRun, Heartbeat, LeaseMarker, LogPoints, StartRun, Write
from tracker_server.partitions import partition_of
from tracker_server.scopes import STATS, experiment_scope
from tracker_server.store.run_list import RunQuery
from tracker_server.store.store import Store

SERVER = "server-0123456789"
SECOND = 1_000
LEASE = Lease()
END = LEASE.length_ms + LEASE.slack_ms
"""From the last sign of life until the lease is certain to have ended."""
EVERY = LEASE.marker_ms
_numbers = itertools.count()


def marker(store: Store, at: int, *, run: str = RUN, server: str = SERVER, interrupted: bool = False) -> Write:
    """A server's marker in the partition of a run."""
    partition = partition_of(run, store.partitions)
    body = LeaseMarker(server, partition, interrupted)
    return Write(scope_in(partition, store.partitions), "", 0, 0, at, False, False, body)


def markers(store: Store, begin: int, end: int, *, run: str = RUN, server: str = SERVER) -> list[Write]:
    """A server's markers without a gap, both ends included."""
    moments = [*range(begin, end, EVERY), end]
    return [marker(store, at, run=run, server=server) for at in moments]


def beat(at: int, *, run: str = RUN, attempt: int = 0) -> Write:
    """A heartbeat."""
    return write(0, Heartbeat(), run=run, writer="", attempt=attempt, accepted=at)


def flush_each(store: Store, writes: Sequence[Write]) -> None:
    """One flush for each."""
    for one in writes:
        store.flush([one])


def status(store: Store, run: str = RUN) -> Status:
    """Of a run."""
    return Status(store.read_run(run, "", 1).run.status)


class LeasesContract:
    """The part of the battery about leases."""

    def test_a_silent_run_is_lost_at_the_first_marker_behind_its_lease_and_not_before(self, store: Store) -> None:
        store.flush([write(1, start("exp"))])
        flush_each(store, markers(store, T - EVERY, T + END))
        assert status(store) is Status.RUNNING
        store.flush([marker(store, T + END + 1)])
        details = store.read_run(RUN, "", 1)
        assert (details.run.status, details.run.lost_ms) == (Status.LOST, T + LEASE.length_ms)
        assert details.run.reason == "no sign of life since 2023-11-14T22:13:20Z"
        (attempt,) = details.attempts
        assert (attempt.status, attempt.lost_ms, attempt.ended_ms) == (Status.LOST, T + LEASE.length_ms, None)
        assert attempt.reason == details.run.reason
        assert [one.record.run_id for one in store.find_runs(RunQuery(statuses={Status.LOST}), None, 10)[0]] == [RUN]
        stats = store.dashboard_stats()
        assert (stats.total_runs, stats.active_runs) == (1, 0)
        assert store.summarize("exp", "", 1).run_counts == [(Status.LOST, 1)]

    def test_a_late_sign_of_life_revives_it_and_a_late_replay_does_not(self, store: Store) -> None:
        store.flush([write(1, points([1], [1.0]))])
        store.flush(markers(store, T, T + END + 1))
        late = T + END + 2
        store.flush([write(2, points([2], [2.0]), accepted=late, replay=True)])
        assert status(store) is Status.LOST
        assert store.read_run(RUN, "", 1).metrics[0].totals.count == 2
        store.flush([write(3, points([3], [3.0]), accepted=late)])
        run = store.read_run(RUN, "", 1).run
        assert (run.status, run.lost_ms, run.reason) == (Status.RUNNING, None, "")
        assert store.read_run(RUN, "", 1).attempts[0].lost_ms is None
        store.flush(markers(store, T + END + EVERY, late + 2 * END))
        assert status(store) is Status.LOST

    def test_a_sign_of_life_from_before_its_loss_keeps_it_lost_from_the_next_marker_on(self, store: Store) -> None:
        store.flush([beat(T)])
        store.flush(markers(store, T, T + END + 1))
        # Delivered late.
        store.flush([beat(T + 40 * SECOND)])
        assert status(store) is Status.RUNNING
        store.flush(markers(store, T + END + 2, T + END + 30 * SECOND))
        assert status(store) is Status.RUNNING
        store.flush([marker(store, T + END + 41 * SECOND)])
        assert store.read_run(RUN, "", 1).run.lost_ms == T + 40 * SECOND + LEASE.length_ms

    def test_the_end_of_a_lost_run_is_its_end_even_in_a_replay(self, store: Store) -> None:
        store.flush([beat(T)])
        store.flush(markers(store, T, T + END + 1))
        store.flush([write(1, complete({"m": 1.0}, at=T + 5), accepted=T + END + 9, replay=True)])
        details = store.read_run(RUN, "", 1)
        assert (details.run.status, details.run.lost_ms, details.run.ended_ms) == (COMPLETED, None, T + 5)
        assert (details.attempts[0].status, details.attempts[0].lost_ms, details.attempts[0].reason) == (2, None, "")

    def test_what_has_ended_is_not_judged(self, store: Store) -> None:
        store.flush([write(1, complete(status=FAILED))])
        store.flush(markers(store, T, T + 3 * END))
        assert status(store) is Status.FAILED

    def test_signs_of_life_and_ends_in_the_same_flush_count(self, store: Store) -> None:
        for run in ("alive", "ended", "silent"):
            store.flush([beat(T, run=run)])
        for run in ("alive", "ended", "silent"):
            store.flush(markers(store, T, T + END, run=run))
        at = T + END + 1
        signs = [beat(at, run="alive"), write(1, complete(), run="ended", replay=True)]
        store.flush([*(marker(store, at, run=run) for run in ("alive", "ended", "silent")), *signs])
        assert [status(store, run) for run in ("alive", "ended", "silent")] == [1, 2, 6]

    def test_a_backlog_in_one_flush_is_judged_by_the_order_of_its_queue(self, store: Store) -> None:
        store.flush([beat(T), beat(T, run="silent")])
        hour = 3_600 * SECOND
        told: list[Write] = []
        for at in range(T, T + hour, EVERY):
            told += [marker(store, at), marker(store, at, run="silent")]
            told += [beat(at)] if at % (30 * SECOND) == 0 else []
        for begin in range(0, len(told), 500):
            store.flush(told[begin : begin + 500])
            assert status(store) is Status.RUNNING
        assert status(store, "silent") is Status.LOST

    def test_an_outage_begins_the_lease_anew(self, store: Store) -> None:
        store.flush([beat(T)])
        store.flush(markers(store, T, T + 60 * SECOND))
        back = T + 10 * END
        for server in (SERVER, "another-0123456789"):
            flush_each(store, markers(store, back, back + END, server=server))
            assert status(store) is Status.RUNNING
            back += 10 * END
        store.flush([marker(store, back - 10 * END + END + 1, server="another-0123456789")])
        assert status(store) is Status.LOST

    def test_markers_that_come_again_judge_nothing(self, store: Store) -> None:
        told = markers(store, T, T + END)
        store.flush([beat(T)])
        for _ in range(3):
            store.flush(told)
            flush_each(store, told[::-1])
        assert status(store) is Status.RUNNING

    def test_a_server_that_turned_writes_away_judges_nothing_for_a_lease(self, store: Store) -> None:
        store.flush([beat(T)])
        store.flush(markers(store, T, T + END))
        store.flush([marker(store, T + END + 1, interrupted=True)])
        store.flush(markers(store, T + END + 2, T + 2 * END + 1))
        assert status(store) is Status.RUNNING
        store.flush([marker(store, T + 2 * END + 2)])
        assert status(store) is Status.LOST

    def test_each_partition_is_judged_by_its_own_markers(self, store: Store) -> None:
        here = [f"run {number}" for number in range(40)]
        store.flush([beat(T, run=run) for run in here])
        store.flush(markers(store, T, T + END + 1, run=here[0]))
        partition = partition_of(here[0], store.partitions)
        for run in here:
            expected = Status.LOST if partition_of(run, store.partitions) == partition else Status.RUNNING
            assert status(store, run) is expected

    def test_markers_of_another_number_of_partitions_are_passed_over(self, store: Store) -> None:
        store.flush([beat(T)])
        for one in markers(store, T, T + 2 * END):
            assert isinstance(one.body, LeaseMarker)
            body = LeaseMarker(one.body.server_id, one.body.partition + 8)
            store.flush([replace(one, body=body), replace(one, scope_id="elsewhere" * 3, body=one.body)])
        assert status(store) is Status.RUNNING
        assert stored_markers(store) == []

    def test_each_attempt_lives_by_its_own_signs(self, store: Store) -> None:
        store.flush([beat(T, attempt=1), beat(T + 30 * SECOND, attempt=2)])
        told = []
        for at in range(T + 60 * SECOND, T + 4 * END, 30 * SECOND):
            told += [*markers(store, at - 29 * SECOND, at), beat(at, attempt=2)]
        store.flush(told)
        details = store.read_run(RUN, "", 1)
        assert details.run.status == Status.RUNNING
        assert [attempt.status for attempt in details.attempts] == [Status.LOST, Status.RUNNING]
        # An older attempt that is lost says nothing of the run; a newer one that begins ends its loss.
        store.flush(markers(store, T + 4 * END, T + 6 * END))
        assert status(store) is Status.LOST
        store.flush([beat(T + 6 * END, attempt=3)])
        assert status(store) is Status.RUNNING

    # ------------------------------------------------------------ runs that were never seen alive

    def test_a_replayed_run_without_an_end_is_lost_since_its_last_point(self, store: Store) -> None:
        logged = T - 86_400_000
        body = points([1, 2], [1.0, 2.0], times=[logged, logged + 5])
        store.flush([write(1, start(at=logged - 9), replay=True), write(2, body, replay=True)])
        store.flush(markers(store, T, T + END))
        assert status(store) is Status.RUNNING
        store.flush([marker(store, T + END + 1)])
        run = store.read_run(RUN, "", 1).run
        assert (run.status, run.lost_ms, run.last_seen_ms) == (Status.LOST, logged + 5, limits.MIN_TIME_MS)
        assert "sent afterwards" in run.reason
        # More of the journal comes, and at last its end.
        body = points([3], [3.0], times=[logged + 7])
        store.flush([write(3, body, accepted=T + 2 * END, replay=True)])
        details = store.read_run(RUN, "", 1)
        assert (details.run.status, details.run.lost_ms) == (Status.LOST, logged + 7)
        assert details.attempts[0].lost_ms == logged + 7
        store.flush([write(4, complete(at=logged + 9), accepted=T + 2 * END, replay=True)])
        assert status(store) is Status.COMPLETED

    def test_a_replayed_attempt_is_lost_since_its_own_last_point_whatever_was_stored_when(self, store: Store) -> None:
        """Neither a newer attempt's points count, nor when the run was first heard of."""
        logged = T - 86_400_000
        at = T + END + 1
        store.flush([write(1, points([1], [1.0]), attempt=2, writer="another-0123456789")])
        first = write(1, points([1], [1.0], times=[logged]), attempt=1, replay=True)
        rest = write(2, points([2], [2.0], times=[logged + 9]), attempt=1, replay=True, accepted=at)
        store.flush([first])
        flush_each(store, markers(store, T, T + END))
        store.flush([rest, beat(at, attempt=2), marker(store, at)])
        old, new = store.read_run(RUN, "", 1).attempts
        assert (old.status, old.lost_ms) == (Status.LOST, logged + 9)
        assert new.status == Status.RUNNING

    def test_a_replayed_run_without_points_is_lost_since_its_start(self, store: Store) -> None:
        store.flush([write(1, start(at=T - 99), replay=True)])
        store.flush(markers(store, T, T + END + 1))
        assert store.read_run(RUN, "", 1).run.lost_ms == T - 99

    def test_a_replayed_run_that_shows_signs_of_life_is_judged_by_them(self, store: Store) -> None:
        store.flush([write(1, start(at=T - 99), replay=True)])
        store.flush(markers(store, T, T + END + 1))
        store.flush([beat(T + END + 2)])
        assert status(store) is Status.RUNNING

    def test_a_run_that_nobody_started_is_not_judged(self, store: Store) -> None:
        store.flush([write(1, replace(update(fields={"notes": "x"}), from_outside=True))])
        store.flush(markers(store, T, T + 2 * END))
        assert status(store) is Status.RUNNING

    # ------------------------------------------------------------ any order

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_who_is_lost_in_the_end_and_since_when_depends_on_no_order(self, store: Store, data: st.DataObject) -> None:
        run = f"run {next(_numbers)}"
        last = 3 * LEASE.length_ms
        signs = data.draw(st.lists(_signs(run, last), min_size=1, max_size=8), label="signs")
        told = [
            sign if isinstance(sign.body, Heartbeat) else replace(sign, sequence=number)
            for number, sign in enumerate(signs, 1)
        ]
        between = markers(store, T, T + last, run=run)
        delivered = data.draw(st.permutations([*told, *between, *data.draw(st.lists(st.sampled_from(told)))]))
        for begin in range(0, len(delivered), 7):
            store.flush(delivered[begin : begin + 7])
        # A new server, so that it begins when the clock of this test says so, whatever the order was before.
        end = T + last + LEASE.length_ms + 2 * END + EVERY
        store.flush(markers(store, T + last, end, run=run, server=f"server of {run}"))
        attempts = store.read_run(run, "", 1).attempts
        found = {attempt.attempt: (attempt.status, attempt.lost_ms) for attempt in attempts}
        assert found == {number: _fate([one for one in told if one.attempt == number]) for number in found}
        assert {one.attempt for one in told} == found.keys()

    # ------------------------------------------------------------ what is cached, and what it costs

    def test_whoever_is_lost_or_revived_makes_what_is_cached_old(self, store: Store) -> None:
        store.flush([write(1, start("exp"))])
        assert store.flush(markers(store, T, T + END)).scopes == frozenset()
        at = T + END + 1
        assert store.flush([marker(store, at)]).scopes == {experiment_scope("exp"), STATS}
        assert store.flush([marker(store, at + 1)]).scopes == frozenset()
        assert store.flush([beat(at + 2)]).scopes == {experiment_scope("exp"), STATS}
        assert store.flush([beat(at + 3)]).scopes == {experiment_scope("exp")}

    def test_markers_are_neither_writes_nor_runs(self, store: Store) -> None:
        outcome = store.flush(markers(store, T, T + 2 * END))
        assert (outcome.applied, outcome.duplicates, outcome.points) == (0, 0, 0)
        assert store.find_runs(RunQuery(), None, 10)[0] == []
        with store._writer.begin() as connection:
            assert connection.execute(text("SELECT count(*) FROM writers")).scalar_one() == 0

    def test_servers_that_are_gone_are_forgotten(self, store: Store) -> None:
        for number in range(5):
            at = T + number * 2 * LEASE.length_ms
            store.flush([marker(store, at, server=f"server-{number}-0123456789")])
        assert [server for server, _, _ in stored_markers(store)] == ["server-4-0123456789"]

    def test_of_many_that_die_together_all_are_lost_after_a_few_markers(self, store: Store) -> None:
        many = limits.MAX_JUDGED_ATTEMPTS + 10
        execute(
            store,
            "INSERT INTO runs (run_id, experiment_id, experiment_conflicts, config, tags, metadata, artifacts, registers,"
            " status, attempt, started_ms, final_metrics, created_ms, last_seen_ms)"
            " VALUES (:run, 'default', '[]', '{}', '[]', '{}', '{}', '{}', 1, 0, :at, '{}', :at, :at)",
            rows=[{"run": run, "at": T} for run in _runs_beside(RUN, many, store.partitions)],
        )
        execute(store, "INSERT INTO attempts (run_id, attempt, status, first_accepted_ms, last_seen_ms, final_metrics,"
                " registers) SELECT run_id, 0, 1, created_ms, last_seen_ms, '{}', '{}' FROM runs")  # fmt: skip
        store.flush(markers(store, T, T + END + 1))
        assert store.dashboard_stats().active_runs == 10
        store.flush([marker(store, T + END + 2)])
        assert store.dashboard_stats().active_runs == 0


def stored_markers(store: Store) -> list[tuple[str, int, int]]:
    """Server, since when and until when, as stored."""
    with store._writer.begin() as connection:
        rows = connection.execute(text("SELECT server_id, since_ms, last_ms FROM lease_markers ORDER BY 1"))
        return [(row[0], row[1], row[2]) for row in rows]


@st.composite
def _signs(draw: st.DrawFn, run: str, last: int) -> Write:
    """Whatever shows that an attempt lives, or ends it, or is replayed."""
    bodies: list[Body] = [start(at=T - 5), points([1], [1.0], times=[T - 3]), complete(at=T + 1), Heartbeat()]
    body = draw(st.sampled_from(bodies))
    attempt, accepted = draw(st.integers(0, 2)), T + draw(st.integers(0, last))
    replay = draw(st.booleans())
    if isinstance(body, Heartbeat):
        return beat(accepted, run=run, attempt=attempt)
    return write(0, body, run=run, attempt=attempt, accepted=accepted, replay=replay)


def _fate(signs: Sequence[Write]) -> tuple[int, int | None]:
    """Status and loss of an attempt of which nothing more is heard."""
    if any(isinstance(sign.body, CompleteRun) for sign in signs):
        return COMPLETED, None
    seen = [sign.accepted_ms // 10_000 * 10_000 for sign in signs if not sign.replay]
    if seen:
        return Status.LOST, max(seen) + LEASE.length_ms
    if any(isinstance(sign.body, LogPoints) for sign in signs):
        return Status.LOST, T - 3
    return Status.LOST, T - 5 if any(isinstance(sign.body, StartRun) for sign in signs) else _first_accepted(signs)


def _first_accepted(signs: Sequence[Write]) -> int:
    return min(sign.accepted_ms for sign in signs)


def _runs_beside(run: str, many: int, partitions: int) -> list[str]:
    """Names of runs in the same partition."""
    partition = partition_of(run, partitions)
    names = (f"beside {number}" for number in range(many * partitions * 2))
    return [name for name in names if partition_of(name, partitions) == partition][:many]
