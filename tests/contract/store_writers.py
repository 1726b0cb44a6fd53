"""What a store promises of writers: whether all that they sent is there, and what is missing or refused."""

import pytest

from tests.contract.store_state import read_run, writers_of
from tests.contract.store_writes import RUN, WRITER, T, complete, points, write
from tracker_server import limits
from tracker_server.model.writes import Body, CloseWriter, LogPoints, UpdateRun, Write
from tracker_server.store.ledger import DeadWrite
from tracker_server.store.store import Store


class WritersContract:
    """The part of the battery about writers and completeness."""

    def test_a_run_is_complete_when_every_writer_is_closed_and_lacks_nothing(self, store: Store) -> None:
        def complete_now() -> bool:
            return store.read_run(RUN, "", 1).complete

        store.flush([write(1, points([1], [1.0])), write(3, points([3], [3.0]))])
        assert not complete_now()
        store.flush([write(0, CloseWriter(3))])
        assert not complete_now()
        assert writers_of(store.read_run(RUN, "", 1)) == {
            WRITER: {"applied": "1,3", "dead": "", "final": 3, "dropped": 0}
        }
        store.flush([write(2, LogPoints((), 7))])
        assert complete_now()
        store.flush([write(1, points([1], [1.0]), writer="another-writer-000")])
        assert not complete_now()
        store.flush([write(0, CloseWriter(1), writer="another-writer-000")])
        assert complete_now()
        store.flush([write(1, points([1], [1.0]), writer="the-servers-own-pair", server_assigned=True)])
        assert complete_now()
        assert list(writers_of(store.read_run(RUN, "", 1))) == ["another-writer-000", WRITER]

    def test_a_writer_that_closes_without_having_written_is_complete(self, store: Store) -> None:
        store.flush([write(0, CloseWriter(0))])
        details = store.read_run(RUN, "", 1)
        assert details.complete
        assert details.writers[0].final_sequence == 0

    def test_a_writer_that_closed_and_then_wrote_on_is_not_closed_until_it_closes_again(self, store: Store) -> None:
        store.flush([write(1, points([1], [1.0])), write(0, CloseWriter(1))])
        assert store.read_run(RUN, "", 1).complete
        store.flush([write(3, points([3], [3.0]))])
        details = store.read_run(RUN, "", 1)
        (writer,) = details.writers
        assert (details.complete, writer.closed, writer.last_sequence, str(writer.missing)) == (False, False, 3, "2")
        store.flush([write(0, CloseWriter(3)), write(2, points([2], [2.0]))])
        (writer,) = store.read_run(RUN, "", 1).writers
        assert (writer.closed, str(writer.missing), writer.is_done) == (True, "", True)
        assert store.read_run(RUN, "", 1).complete

    def test_writers_of_all_attempts_count(self, store: Store) -> None:
        store.flush([write(1, points([1], [1.0]), attempt=1)])
        store.flush([write(1, complete(), attempt=2, writer="writer-of-attempt-2")])
        store.flush([write(0, CloseWriter(1), attempt=2, writer="writer-of-attempt-2")])
        assert not store.read_run(RUN, "", 1).complete
        store.flush([write(0, CloseWriter(1), attempt=1, replay=True)])
        assert store.read_run(RUN, "", 1).complete

    def test_a_run_whose_writers_say_nothing_is_complete_once_it_has_ended_and_nothing_is_refused(
        self, store: Store
    ) -> None:
        def assigned(sequence: int, body: Body) -> Write:
            return write(sequence, body, writer="the-servers-own-pair", server_assigned=True)

        store.flush([assigned(1, points([1], [1.0]))])
        assert not store.read_run(RUN, "", 1).complete
        # A number that the server gave in vain is no hole.
        store.flush([assigned(3, complete())])
        details = store.read_run(RUN, "", 1)
        assert (details.writers, details.complete) == ([], True)
        store.mark_dead([DeadWrite(RUN, False, "the-servers-own-pair", 4, True)])
        details = store.read_run(RUN, "", 1)
        (writer,) = details.writers
        assert (str(writer.dead), str(writer.missing), writer.closed, details.complete) == ("4", "", False, False)
        store.flush([assigned(4, points([2], [2.0]))])
        details = store.read_run(RUN, "", 1)
        assert (details.writers, details.complete) == ([], True)

    @pytest.mark.parametrize("first", [True, False])
    def test_who_changes_a_run_from_outside_is_not_waited_for(self, store: Store, first: bool) -> None:
        """Whatever writer it names, and whether it comes before the run's own writers or after them."""
        person = "a-person-000000000"
        stop = UpdateRun(T, {"stop_requested": True}, {}, from_outside=True)
        outside = [write(1, stop, writer=person), write(3, stop, writer=person)]
        own = [write(1, points([1], [1.0])), write(0, CloseWriter(1))]
        store.flush(outside if first else own)
        store.flush(own if first else outside)
        details = store.read_run(RUN, "", 1)
        assert (list(writers_of(details)), details.complete) == ([WRITER], True)
        # It becomes one of the run's own writers with the first write of the run's that it sends.
        store.flush([write(4, points([2], [1.0]), writer=person)])
        details = store.read_run(RUN, "", 1)
        assert (list(writers_of(details)), details.complete) == ([person, WRITER], False)
        store.flush([write(0, CloseWriter(4), writer=person), write(2, stop, writer=person)])
        assert store.read_run(RUN, "", 1).complete

    def test_a_refused_change_from_outside_is_listed_until_it_is_replayed(self, store: Store) -> None:
        person = "a-person-000000000"
        store.flush([write(1, points([1], [1.0])), write(0, CloseWriter(1))])
        store.mark_dead([DeadWrite(RUN, False, person, 2, True)])
        details = store.read_run(RUN, "", 1)
        assert (details.complete, writers_of(details)[person]["dead"]) == (False, "2")
        store.flush([write(2, UpdateRun(T, {"notes": "n"}, {}, from_outside=True), writer=person)])
        assert store.read_run(RUN, "", 1).complete

    def test_of_too_many_writers_those_are_listed_because_of_which_the_run_is_not_complete(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "MAX_LISTED_WRITERS", 3)
        names = [f"writer-{number:012}" for number in range(6)]
        store.flush([write(0, CloseWriter(0 if name != names[4] else 1), writer=name) for name in names])
        details = store.read_run(RUN, "", 1)
        assert [writer.writer_id for writer in details.writers] == [names[0], names[1], names[4]]
        assert not details.complete
        store.flush([write(1, points([1], [1.0]), writer=names[4])])
        assert store.read_run(RUN, "", 1).complete

    @pytest.mark.parametrize("together", [False, True])
    def test_of_two_closes_the_higher_counts_whatever_the_order(self, store: Store, together: bool) -> None:
        for run, order in (("a", (5, 3)), ("b", (3, 5))):
            closes = [write(0, CloseWriter(last), run=run, accepted=T + 10_000 * last) for last in order]
            for batch in [closes] if together else [[one] for one in closes]:
                store.flush(batch)
        a, b = (store.read_run(run, "", 1) for run in ("a", "b"))
        assert a.writers[0].final_sequence == b.writers[0].final_sequence == 5
        assert (
            (a.run.created_ms, a.run.last_seen_ms) == (b.run.created_ms, b.run.last_seen_ms) == (T + 30_000, T + 50_000)
        )

    def test_dropped_points_are_added_up_once_and_without_overflow(self, store: Store) -> None:
        store.flush([write(1, LogPoints((), 5)), write(2, LogPoints((), 2**63 - 1))])
        store.flush([write(1, LogPoints((), 5)), write(3, LogPoints((), 1))])
        assert store.read_run(RUN, "", 1).writers[0].dropped_points == 2**63 - 1
        assert store.read_run(RUN, "", 1).metrics == []

    def test_a_dead_write_is_refused_until_it_is_replayed(self, store: Store) -> None:
        store.flush([write(1, points([1], [1.0])), write(0, CloseWriter(3))])
        dead = [DeadWrite(RUN, False, WRITER, sequence, False) for sequence in (2, 3, 1)]
        store.mark_dead(dead)
        store.mark_dead(dead)
        details = store.read_run(RUN, "", 1)
        assert (str(details.writers[0].applied), str(details.writers[0].dead)) == ("1", "2-3")
        assert not details.complete
        sets = store.applied([(RUN, WRITER)], experiments=False)[RUN, WRITER]
        assert (str(sets.applied), str(sets.dead), sets.final_sequence) == ("1", "2-3", 3)
        store.flush([write(2, points([2], [2.0])), write(3, points([3], [3.0]))])
        assert store.read_run(RUN, "", 1).complete
        state = read_run(store, RUN)
        assert state is not None
        assert [step for step, _, _ in state["history"]["m"]] == [1, 2, 3]

    def test_a_dead_write_of_a_run_or_experiment_that_is_not_there_is_noted(self, store: Store) -> None:
        store.mark_dead([DeadWrite("gone", False, WRITER, 1, False), DeadWrite("gone", True, WRITER, 2, True)])
        for experiments, sequence in ((False, "1"), (True, "2")):
            sets = store.applied([("gone", WRITER)], experiments=experiments)["gone", WRITER]
            assert (str(sets.applied), str(sets.dead), sets.final_sequence) == ("", sequence, None)
        store.flush([write(1, points([1], [1.0]), run="gone")])
        details = store.read_run("gone", "", 1)
        assert (str(details.writers[0].applied), str(details.writers[0].dead)) == ("1", "")
        assert details.metrics[0].totals.last == (1, T, WRITER, 1, 1.0)

    def test_dead_writes_whose_names_no_table_can_hold_are_left_out(self, store: Store) -> None:
        impossible = ["", "\0", "x" * 129, "a\n"]
        dead = [DeadWrite(name, experiment, WRITER, 1, False) for name in impossible for experiment in (True, False)]
        dead += [DeadWrite(RUN, False, name, 1, False) for name in impossible]
        dead += [DeadWrite(RUN, False, WRITER, sequence, False) for sequence in (0, -1, 5)]
        store.mark_dead(dead)
        assert str(store.applied([(RUN, WRITER)], experiments=False)[RUN, WRITER].dead) == "5"

    def test_sequences_may_be_as_large_as_they_come(self, store: Store) -> None:
        batch = [write(2**63 - 1, points([1], [1.0])), write(2**63 - 2, points([2], [2.0]))]
        assert store.flush(batch).applied == 2
        assert store.flush(batch).duplicates == 2
        assert str(store.read_run(RUN, "", 1).writers[0].applied) == f"{2**63 - 2}-{2**63 - 1}"
