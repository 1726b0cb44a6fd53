"""What a store promises of runs and experiments: their fields, their experiment, their writers, and changes of them."""

import itertools
import json
from dataclasses import replace

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings

from tests.contract.store_writes import RUN, WRITER, T, complete, points, start, update, update_experiment, write
from tests.unit.config_values import config_maps, python_of
from tracker.v1.resources_pb2 import ConfigMap
from tracker_server.errors import ExperimentNotFound, RunNotFound
from tracker_server.model.typed_json import Json, decode_map, encode_value
from tracker_server.model.writes import Heartbeat, MapChange
from tracker_server.store.store import Store

NASTY_TEXT = 'a"b\\c{d},e\nNULL\\"\t\'%s $1 \u2028 𝄞 \x01'
_numbers = itertools.count()


class RunsContract:
    """The part of the battery about runs, experiments and writers."""

    # ------------------------------------------------------------ fields

    def test_everything_a_start_and_an_end_say_comes_back(self, store: Store) -> None:
        body = start(
            "exp", name=NASTY_TEXT, tags=("b", NASTY_TEXT, "a", "a"), metadata={NASTY_TEXT: NASTY_TEXT, "": ""}
        )
        store.flush([write(1, body)])
        store.flush([write(2, complete(artifacts={NASTY_TEXT: "s3://x"}, metadata={"k": "v", "": "later"}, at=T + 1))])
        run = store.read_run(RUN, "", 1).run
        assert run.name == NASTY_TEXT
        assert run.tags == sorted({"b", NASTY_TEXT, "a"})
        assert run.metadata == {NASTY_TEXT: NASTY_TEXT, "": "later", "k": "v"}
        assert run.artifacts == {NASTY_TEXT: "s3://x"}
        assert (run.experiment_id, run.experiment_conflicts) == ("exp", [])

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(config=config_maps())
    def test_every_config_comes_back_with_its_types(self, store: Store, config: ConfigMap) -> None:
        run = f"run {next(_numbers)}"
        encoded = {key: encode_value(value) for key, value in config.values.items()}
        store.flush([write(1, start(config=encoded), run=run)])
        back = decode_map(store.read_run(run, "", 1).run.config)
        assert python_of(back) == python_of(config), MessageToDict(config)

    def test_a_nasty_config_comes_back_exactly(self, store: Store) -> None:
        config: dict[str, Json] = {
            "nan": {"$double": "nan"},
            "large": 2**53 + 1,
            "edges": [2**63 - 1, -(2**63)],
            "tiny": {"$double": "5e-324"},
            "whole": 4.0,
            "int": 4,
            "nested": [[], {}, [{}], {"a": {"b": [None, True, {"$map": {"$x": 1}}]}}],
            "$top": "dollar",
            NASTY_TEXT: NASTY_TEXT,
        }
        store.flush([write(1, start(config=config))])
        back = store.read_run(RUN, "", 1).run.config
        assert json.dumps(back, sort_keys=True) == json.dumps(config, sort_keys=True)

    def test_unknown_runs_and_experiments_are_named(self, store: Store) -> None:
        with pytest.raises(RunNotFound, match="'gone'"):
            store.read_run("gone", "", 1)
        with pytest.raises(ExperimentNotFound, match="'gone'"):
            store.summarize("gone", "", 1)

    # ------------------------------------------------------------ experiments

    def test_a_run_without_an_experiment_is_in_default_until_one_is_named(self, store: Store) -> None:
        store.flush([write(1, points([1], [1.0]))])
        assert store.read_run(RUN, "", 1).run.experiment_id == "default"
        assert store.summarize("default", "", 10).experiment.run_count == 1
        scopes = store.flush([write(2, start("exp"))]).scopes
        assert {"experiment:default", "experiment:exp", "experiments", "stats"} <= scopes
        run = store.read_run(RUN, "", 1).run
        assert (run.experiment_id, run.experiment_conflicts) == ("exp", [])
        assert store.summarize("exp", "", 10).experiment.run_count == 1
        with pytest.raises(ExperimentNotFound):
            store.summarize("default", "", 10)

    def test_the_experiment_named_first_wins_and_the_others_are_recorded(self, store: Store) -> None:
        writes = [
            write(1, start("late", at=T + 2)),
            write(2, start("first", at=T)),
            write(3, complete(experiment="later", at=T + 5)),
            write(4, start("first", at=T + 9), attempt=3),
        ]
        for number, order in enumerate(itertools.permutations(writes)):
            run = f"run {number}"
            for one in order:
                assert "experiments" in store.flush([replace(one, scope_id=run)]).scopes
            record = store.read_run(run, "", 1).run
            assert (record.experiment_id, record.experiment_conflicts) == ("first", ["late", "later"])
        assert {e.experiment_id: e.run_count for e in store.list_experiments(None, 10)} == {
            "first": 24,
            "late": 0,
            "later": 0,
        }

    def test_an_experiment_is_as_old_as_the_first_write_that_names_it(self, store: Store) -> None:
        store.flush([write(1, start("exp"), accepted=T + 5)])
        store.flush([write(2, complete(experiment="exp"), accepted=T + 3)])
        store.flush([write(1, update_experiment(), run="exp", accepted=T + 4)])
        assert store.summarize("exp", "", 1).experiment.created_ms == T + 3

    def test_the_default_experiment_shows_once_something_is_said_of_it(self, store: Store) -> None:
        assert store.list_experiments(None, 10) == []
        store.flush([write(1, update_experiment(tags=MapChange(set={"t": True})), run="default")])
        (experiment,) = store.list_experiments(None, 10)
        assert (experiment.experiment_id, experiment.tags) == ("default", ["t"])
        assert store.summarize("default", "", 1).experiment == experiment
        assert store.dashboard_stats().total_experiments == 1

    # ------------------------------------------------------------ changes

    def test_changes_set_clear_and_remove_in_any_order(self, store: Store) -> None:
        writes = [
            write(1, start(name="old", config={"a": 1, "b": 1}, tags=("x", "y"), metadata={"k": "1"}, at=T)),
            write(2, update(T + 1, {"name": "new", "notes": NASTY_TEXT}, config=MapChange(remove=("a",)))),
            write(3, update(T + 2, {"name": ""}, config=MapChange(replace=True, set={"c": 3}))),
            write(4, update(T + 3, tags=MapChange(set={"z": True}, remove=("x",)), metadata=MapChange(replace=True))),
            write(5, complete(at=T, metadata={"late": "no"}, artifacts={"m": "s3://x"})),
        ]
        for number, order in enumerate(itertools.islice(itertools.permutations(writes), 0, 120, 13)):
            run = f"run {number}"
            for one in order:
                store.flush([replace(one, scope_id=run)])
            record = store.read_run(run, "", 1).run
            assert (record.name, record.notes) == ("", NASTY_TEXT)
            assert (record.config, record.tags, record.metadata) == ({"c": 3}, ["y", "z"], {})
            assert record.artifacts == {"m": "s3://x"}

    def test_experiments_change_likewise_and_count_their_own_sequences(self, store: Store) -> None:
        writes = [
            write(1, update_experiment(T, {"name": NASTY_TEXT}, tags=MapChange(set={"a": True, "b": True}))),
            write(2, update_experiment(T + 1, {"notes": "n"}, tags=MapChange(remove=("a",)))),
            write(3, update_experiment(T + 2, metadata=MapChange(set={NASTY_TEXT: NASTY_TEXT}))),
        ]
        for number, order in enumerate(itertools.permutations(writes)):
            name = f"exp {number}"
            outcome = store.flush([replace(one, scope_id=name) for one in (*order, order[0])])
            assert (outcome.applied, outcome.duplicates) == (3, 1)
            assert outcome.scopes == {f"experiment:{name}", "experiments"}
            record = store.summarize(name, "", 1).experiment
            assert (record.name, record.notes, record.tags) == (NASTY_TEXT, "n", ["b"])
            assert record.metadata == {NASTY_TEXT: NASTY_TEXT}
        sets = store.applied([("exp 0", WRITER), ("exp 0", "unknown")], experiments=True)
        assert {key: str(found.applied) for key, found in sets.items()} == {("exp 0", WRITER): "1-3"}
        assert store.applied([("exp 0", WRITER)], experiments=False) == {}

    def test_a_run_and_an_experiment_of_one_name_are_apart(self, store: Store) -> None:
        batch = [write(1, points([1], [1.0]), run="same"), write(1, update_experiment(T, {"name": "n"}), run="same")]
        assert store.flush(batch).applied == 2
        assert store.flush(batch).duplicates == 2

    def test_runs_that_shall_stop_are_known_until_it_is_taken_back(self, store: Store) -> None:
        ask, take_back = update(T + 1, {"stop_requested": True}), update(T + 2, {"stop_requested": False})
        store.flush([write(1, ask, run="a"), write(1, ask, run="b"), write(1, Heartbeat(), run="c")])
        assert store.runs_to_stop() == {"a": 0, "b": 0}
        store.flush([write(2, take_back, run="a")])
        assert store.runs_to_stop() == {"b": 0}
        assert store.read_run("b", "", 1).run.stop_requested is True
        assert store.read_run("a", "", 1).run.stop_requested is False

    # ------------------------------------------------------------ signs of life

    def test_any_write_is_a_sign_of_life_but_a_replay_is_none(self, store: Store) -> None:
        store.flush([write(0, Heartbeat(), writer="", accepted=T + 12_345)])
        assert store.read_run(RUN, "", 1).run.last_seen_ms == T + 10_000
        store.flush([write(1, points([1], [1.0]), accepted=T + 99_999, replay=True)])
        assert store.read_run(RUN, "", 1).run.last_seen_ms == T + 10_000
        store.flush([write(0, Heartbeat(), writer="", accepted=T + 20_001)])
        run = store.read_run(RUN, "", 1).run
        assert (run.last_seen_ms, run.created_ms, run.status) == (T + 20_000, T + 12_345, 1)

    @pytest.mark.parametrize("writer", ["", WRITER])
    def test_heartbeats_leave_no_trace_among_the_writers(self, store: Store, writer: str) -> None:
        for accepted in (T, T + 20_000):
            store.flush([write(0, Heartbeat(), writer=writer, accepted=accepted)] * 2)
        details = store.read_run(RUN, "", 1)
        assert (details.writers, details.complete) == ([], False)
        assert details.run.last_seen_ms == T + 20_000
