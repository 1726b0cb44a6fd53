"""What a store promises of deleting: hidden at once from every read, nothing lost by it, and back when it is restored."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.store_history import OPEN
from tests.contract.store_state import read_run, read_summary
from tests.contract.store_writes import RUN, T, complete, points, start, update, update_experiment, write
from tracker_server.errors import ExperimentNotFound, RunNotFound
from tracker_server.model.records import Position
from tracker_server.model.writes import UpdateRun, Write
from tracker_server.scopes import EXPERIMENT_LIST, STATS, experiment_scope
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.run_list import RunQuery
from tracker_server.store.store import Store

OPERATOR = "operator-0123456789"
"""Named by a server: a writer that names itself is one of those that make a run complete."""


def delete_run(sequence: int, *, run: str = RUN, at: int = T) -> Write:
    """As DeleteRun arrives."""
    body = UpdateRun(at, {"deleted_ms": at}, {}, from_outside=True)
    return write(sequence, body, run=run, writer=OPERATOR, accepted=at, server_assigned=True)


def undelete_run(sequence: int, *, run: str = RUN, at: int = T) -> Write:
    """As UndeleteRun arrives."""
    body = UpdateRun(at, {"deleted_ms": None}, {}, from_outside=True)
    return write(sequence, body, run=run, writer=OPERATOR, accepted=at, server_assigned=True)


def delete_experiment(sequence: int, experiment: str = "e", *, at: int = T) -> Write:
    """As DeleteExperiment arrives."""
    body = update_experiment(at, {"deleted_ms": at})
    return write(sequence, body, run=experiment, writer=OPERATOR, accepted=at, server_assigned=True)


def undelete_experiment(sequence: int, experiment: str = "e", *, at: int = T) -> Write:
    """As UndeleteExperiment arrives."""
    body = update_experiment(at, {"deleted_ms": None})
    return write(sequence, body, run=experiment, writer=OPERATOR, accepted=at, server_assigned=True)


def fill(store: Store) -> None:
    """Two runs in experiment e."""
    for run, value in ((RUN, 1.0), ("other", 5.0)):
        store.flush(
            [
                write(1, start("e", config={"lr": 0.1}), run=run),
                write(2, points([1, 2], [value, value + 1]), run=run),
                write(3, complete({"final": value}), run=run),
            ]
        )


def everything(store: Store) -> dict[str, Any]:
    """All that any read says of experiment e and its runs."""
    stats = store.dashboard_stats()
    return {
        "runs": {run: read_run(store, run) for run in (RUN, "other")},
        "summary": read_summary(store, "e"),
        "lists": [listed(store, name) for name in ("", "e")],
        "experiments": [(one.experiment_id, one.run_count) for one in store.list_experiments(None, 10)],
        "stats": (stats.total_experiments, stats.total_runs, stats.active_runs),
    }


def listed(store: Store, experiment: str = "", *, show_deleted: bool = False) -> list[str]:
    """Runs as ListRuns lists them."""
    query = RunQuery(experiment, show_deleted=show_deleted)
    return [one.record.run_id for one in store.find_runs(query, None, 10)[0]]


def history(store: Store, *run_ids: str) -> Any:
    """Reads the points of metric m."""
    return store.read_history(HistoryQuery(run_ids, ["m"], OPEN, 0, 1000), Position())


class DeletingContract:
    """The part of the battery about deleting and restoring."""

    def test_a_deleted_run_is_hidden_from_every_read_and_restored_whole(self, store: Store) -> None:
        fill(store)
        before = everything(store)
        store.flush([delete_run(1)])
        hidden = everything(store)
        assert hidden["runs"] == {RUN: None, "other": before["runs"]["other"]}
        assert hidden["lists"] == [["other"], ["other"]]
        assert hidden["experiments"] == [("e", 1)]
        assert hidden["stats"] == (1, 1, 0)
        summary = hidden["summary"]
        assert (summary["counts"], summary["newest"]) == ({2: 1}, ["other"])
        assert {name: metric["min"] for name, metric in summary["metrics"].items()} == {
            "m": (6.0, "other"),
            "final": (5.0, "other"),
        }
        with pytest.raises(RunNotFound):
            history(store, "other", RUN)
        store.flush([undelete_run(2, at=T + 1)])
        assert everything(store) == before

    def test_the_error_says_until_when_it_can_be_restored(self, store: Store) -> None:
        fill(store)
        store.flush([delete_run(1)])
        told = r"run 'run' was deleted; UndeleteRun restores it until 2023-11-21T22:13:20Z"
        for read in (lambda: store.read_run(RUN, "", 1), lambda: history(store, RUN)):
            with pytest.raises(RunNotFound, match=told) as caught:
                read()
            assert caught.value.metadata == {"run_id": RUN}
        with pytest.raises(RunNotFound, match=rf"^no run 'nobody'; {told}$"):
            history(store, "nobody", RUN)
        store.flush([delete_experiment(1)])
        told = "was deleted; UndeleteExperiment restores it until 2023-11-21T22:13:20Z"
        with pytest.raises(ExperimentNotFound, match=f"^experiment 'e' {told}$"):
            store.summarize("e", "", 1)
        with pytest.raises(RunNotFound, match=f"^the experiment 'e' of run 'other' {told}$"):
            store.read_run("other", "", 1)

    def test_what_is_deleted_is_shown_on_request(self, store: Store) -> None:
        fill(store)
        store.flush([write(1, start("kept"), run="kept"), delete_run(1), delete_experiment(1)])
        assert listed(store) == ["kept"]
        assert sorted(listed(store, show_deleted=True)) == ["kept", "other", RUN]
        assert sorted(listed(store, "e", show_deleted=True)) == ["other", RUN]
        assert store.read_run(RUN, "", 1, show_deleted=True).run.deleted_ms == T
        assert store.read_run("other", "", 1, show_deleted=True).run.deleted_ms is None
        assert [one.experiment_id for one in store.list_experiments(None, 10)] == ["kept"]
        shown = store.list_experiments(None, 10, show_deleted=True)
        assert {one.experiment_id: (one.deleted_ms, one.run_count) for one in shown} == {"e": (T, 1), "kept": (None, 1)}

    def test_a_deleted_experiment_hides_its_runs_and_gives_back_those_not_deleted_themselves(
        self, store: Store
    ) -> None:
        fill(store)
        before = everything(store)
        store.flush([delete_experiment(1)])
        hidden = everything(store)
        assert hidden["runs"] == {RUN: None, "other": None}
        assert (hidden["summary"], hidden["lists"], hidden["experiments"]) == (None, [[], []], [])
        assert hidden["stats"] == (0, 0, 0)
        store.flush([delete_run(1)])
        store.flush([undelete_experiment(2, at=T + 1)])
        assert everything(store)["lists"] == [["other"], ["other"]]
        store.flush([undelete_run(2, at=T + 1)])
        assert everything(store) == before

    def test_what_is_written_to_a_hidden_run_is_there_when_it_is_restored(self, store: Store) -> None:
        fill(store)
        late = [write(4, points([3], [9.0])), write(5, update(T, {"notes": "late"}))]
        made = [write(1, start("e"), run="made"), write(2, points([1], [0.5]), run="made")]
        store.flush([delete_run(1), delete_experiment(1)])
        outcome = store.flush([*late, *made])
        assert (outcome.applied, outcome.dropped) == (4, 0)
        assert everything(store)["lists"] == [[], []]
        store.flush([undelete_run(2, at=T + 1), undelete_experiment(2, at=T + 1)])
        assert store.read_run(RUN, "", 1).run.notes == "late"
        assert len(history(store, RUN, "made").parts[0].steps) == 3
        assert sorted(everything(store)["lists"][1]) == ["made", "other", RUN]

    def test_of_a_deletion_and_a_restoration_the_later_wins_in_any_order(self, store: Store) -> None:
        fill(store)
        store.flush([undelete_run(2, at=T + 5)])
        store.flush([delete_run(1, at=T + 4)])
        assert read_run(store, RUN) is not None
        store.flush([delete_run(3, at=T + 6)])
        assert read_run(store, RUN) is None

    def test_a_run_that_nobody_started_can_be_deleted_beforehand(self, store: Store) -> None:
        store.flush([delete_run(1)])
        store.flush([write(1, points([1], [1.0]))])
        assert read_run(store, RUN) is None
        assert store.dashboard_stats().total_runs == 0
        store.flush([undelete_run(2, at=T + 1)])
        assert len(history(store, RUN).parts[0].steps) == 1

    @pytest.mark.parametrize("change", [delete_run, undelete_run])
    def test_all_that_is_cached_of_a_run_is_old_when_it_is_deleted_or_restored(
        self, store: Store, change: Callable[[int], Write]
    ) -> None:
        fill(store)
        assert store.flush([change(1)]).scopes == {experiment_scope("e"), EXPERIMENT_LIST, STATS}

    @pytest.mark.parametrize("change", [delete_experiment, undelete_experiment])
    def test_so_it_is_with_an_experiment(self, store: Store, change: Callable[[int], Write]) -> None:
        fill(store)
        assert store.flush([change(1)]).scopes == {experiment_scope("e"), EXPERIMENT_LIST, STATS}
