"""CSV logs, in the forms that their writers give them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.importers.reading import find, read_one
from tracker_client.importers.csv_mapping import CsvMapping
from tracker_client.importers.records import ReadError

LIGHTNING = "epoch,step,train_loss,val_loss\n0,9,0.5,\n0,9,,0.6\n1,19,nan,\n1,19,,inf\n"
KERAS = "epoch,accuracy,loss\n0,0.5,1.25\n1,0.75,1.0\n"
YOLO = "             epoch,    train/box_loss\n                 1,               0.9\n                 2,               0.8\n"
RLLIB = (
    "episode_reward_mean,done,timesteps_total,training_iteration,date,timestamp,hist\n"
    '1.5,False,1000,1,2020-01-01_00-00-00,1577836800,"[1.0, 2.0]"\n'
    '2.5,True,2000,2,2020-01-01_00-00-10,1577836810,"[1.0, 2.0]"\n'
)
MONITOR = '#{"t_start": 1600000000.5, "env_id": "Ant-v3"}\nr,l,t\n-1.5,10,0.25\n-1.0,20,0.75\n'
BASELINES = "eprewmean,misc/nupdates,misc/total_timesteps\n1.0,1,128\n2.0,2,256\n"
KEPT_BY_HAND = "Wall time;Step;Value\n1600000000.25;100;0,5\n1600000001;200;7\n"


def log(folder: Path, text: str | bytes, name: str = "metrics.csv") -> Path:
    """A file."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "name", "mapping"),
    [
        (LIGHTNING, "metrics.csv", CsvMapping("step", "", ("epoch", "train_loss", "val_loss"), ())),
        (KERAS, "history.csv", CsvMapping("epoch", "", ("accuracy", "loss"), ())),
        (YOLO, "results.csv", CsvMapping("epoch", "", ("train/box_loss",), ())),
        (
            RLLIB,
            "progress.csv",
            CsvMapping(
                "timesteps_total",
                "timestamp",
                ("episode_reward_mean", "done", "training_iteration"),
                ("date", "hist"),
            ),
        ),
        (MONITOR, "0.monitor.csv", CsvMapping("", "", ("r", "l", "t"), ())),
        (BASELINES, "progress.csv", CsvMapping("misc/total_timesteps", "", ("eprewmean", "misc/nupdates"), ())),
        (KEPT_BY_HAND, "by_hand.csv", CsvMapping("Step", "Wall time", ("Value",), ())),
    ],
    ids=["lightning", "keras", "yolo", "rllib", "monitor", "baselines", "by hand"],
)
def test_the_columns_of_known_writers_are_guessed_and_shown(
    tmp_path: Path, text: str, name: str, mapping: CsvMapping
) -> None:
    log(tmp_path, text, name)
    assert read_one(tmp_path).start.columns == mapping


def test_empty_cells_are_no_points_and_nan_and_inf_are(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, LIGHTNING))
    assert repr(read.series["train_loss"]) == repr([(9, 0.5), (19, math.nan)])
    assert read.series["val_loss"] == [(9, 0.6), (19, math.inf)]
    assert read.series["epoch"] == [(9, 0.0), (9, 0.0), (19, 1.0), (19, 1.0)]
    assert not read.problems
    assert not read.ignored


def test_text_is_counted_as_ignored_and_booleans_are_numbers(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, RLLIB))
    assert read.series["done"] == [(1000, 0.0), (2000, 1.0)]
    assert read.ignored == {"date": 2, "hist": 2}
    assert read.times_ms["done"] == [1_577_836_800_000, 1_577_836_810_000]
    assert read.end
    assert read.end.ended_ms == 1_577_836_810_000


def test_a_number_with_a_decimal_comma_is_text(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, KEPT_BY_HAND))
    assert read.series["Value"] == [(200, 7.0)]
    assert read.ignored == {"Value": 1}


def test_the_monitors_comment_gives_config_and_times(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, MONITOR, "monitor.csv"))
    assert read.config["env_id"] == "Ant-v3"
    assert read.start.started_ms == 1_600_000_000_500
    assert read.series["r"] == [(0, -1.5), (1, -1.0)]
    assert read.times_ms["r"] == [1_600_000_000_750, 1_600_000_001_250]


def test_a_file_with_nothing_but_its_header_is_a_run_without_points(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, "epoch,loss\n"))
    assert not read.series
    assert not read.problems


@pytest.mark.parametrize("size", range(len("step,a,b\n1,0.5,1.25\n"), len("step,a,b\n1,0.5,1.25\n2,0.75,1.625")))
def test_the_last_cell_of_a_row_that_was_cut_off_is_left_out(tmp_path: Path, size: int) -> None:
    text = "step,a,b\n1,0.5,1.25\n2,0.75,1.625"[:size]
    read = read_one(log(tmp_path, text))
    cut = text.rpartition("\n")[2]
    assert read.series["a"] == [(1, 0.5), *([(2, 0.75)] if cut.count(",") == 2 else [])]
    assert read.series["b"][0] == (1, 1.25)
    assert bool(read.problems) == (len(cut) > 0 and cut.count(",") < 2)


def test_rows_that_repeat_the_header_and_empty_ones_are_nothing(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, "step,loss\n1,0.5\n\nstep,loss\n1,0.25\n"))
    assert read.series["loss"] == [(1, 0.5), (1, 0.25)]
    assert not read.problems


def test_rows_without_a_step_are_told_of_by_their_line(tmp_path: Path) -> None:
    path = log(tmp_path, "# made by hand\nstep,loss\n1,0.5\nx,0.4\n,0.3\n1e3,0.2\n")
    read = read_one(path, mapping=CsvMapping(step="step"))
    assert read.series["loss"] == [(1, 0.5), (1000, 0.2)]
    (problem,) = read.problems
    assert (problem.path, problem.where) == (str(path), "line 4")
    assert "2 rows" in problem.what


def test_steps_of_64_bits_stay_exact_and_larger_ones_are_told_of(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, f"step,loss\n{2**63 - 1},1\n{2**63},2\n"), mapping=CsvMapping(step="step"))
    assert read.series["loss"] == [(2**63 - 1, 1.0)]
    assert "1 rows left out" in read.problems[0].what


def test_what_is_no_utf8_and_what_is_too_much_costs_only_itself(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, b"\xef\xbb\xbfstep,loss,\xe9\n1,0.5,2\n2,0.4,3,9\n"))
    assert read.series["loss"] == [(1, 0.5), (2, 0.4)]
    assert read.series["\N{REPLACEMENT CHARACTER}"] == [(1, 2.0), (2, 3.0)]
    assert [problem.where for problem in read.problems] == ["line 3"]


def test_columns_without_a_name_or_with_the_same_get_their_position(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, ",step,loss,loss\n5,1,0.5,0.25\n"))
    assert read.series == {"column.0": [(1, 5.0)], "loss": [(1, 0.5)], "loss.3": [(1, 0.25)]}


def test_a_wish_takes_the_place_of_the_guess(tmp_path: Path) -> None:
    path = log(tmp_path, "epoch,step,when,a,b\n0,10,1600000000000,1,2\n1,20,1600000001000,3,4\n")
    wish = CsvMapping(step="epoch", time="when", metrics=("a",))
    read = read_one(path, mapping=wish)
    assert read.series == {"a": [(0, 1.0), (1, 3.0)]}
    assert read.times_ms["a"] == [1_600_000_000_000, 1_600_000_001_000]
    assert read.start.columns == CsvMapping("epoch", "when", ("a",), ("step", "b"))
    by_row = read_one(path, mapping=CsvMapping(step="", ignored=("b", "when")))
    assert set(by_row.series) == {"epoch", "step", "a"}
    assert by_row.series["a"] == [(0, 1.0), (1, 3.0)]
    assert len({read.source.run_id, by_row.source.run_id, read_one(path).source.run_id}) == 3


def test_a_wish_for_a_column_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    path = log(tmp_path, KERAS)
    with pytest.raises(ReadError, match="no column 'steps'; its columns are 'epoch', 'accuracy', 'loss'"):
        read_one(path, mapping=CsvMapping(step="steps"))


def test_a_few_broken_rows_do_not_change_what_the_step_is(tmp_path: Path) -> None:
    rows = "".join(f"{step},{step / 10},0.5\n" for step in range(100))
    read = read_one(log(tmp_path, f"step,epoch,loss\n{rows}garbage\n"))
    assert len(read.series["loss"]) == 100
    assert read.start.columns
    assert (read.start.columns.step, read.start.columns.metrics) == ("step", ("epoch", "loss"))
    assert [problem.where for problem in read.problems] == ["line 102"]


def test_epochs_that_are_no_whole_numbers_are_no_steps(tmp_path: Path) -> None:
    read = read_one(log(tmp_path, "epoch,loss\n0.5,1\n1.0,2\n1.5,3\n"))
    assert read.series["epoch"] == [(0, 0.5), (1, 1.0), (2, 1.5)]


def test_a_table_without_a_header_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no header"):
        read_one(log(tmp_path, "1,0.5\n2,0.25\n"))


def test_a_table_that_is_no_log_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    path = log(tmp_path, "width,height\n1,2\n", "boxes.csv")
    found, problems = find(tmp_path)
    assert not found
    assert problems[0].path == str(path)
    assert "Name it to take it" in problems[0].what
    assert read_one(path).series["width"] == [(0, 1.0)]


def test_tabs_and_semicolons_part_cells_too(tmp_path: Path) -> None:
    assert read_one(log(tmp_path, "step\tloss\n1\t0.5\n", "loss.tsv")).series["loss"] == [(1, 0.5)]
    assert read_one(log(tmp_path, "step;loss\n1;0.5\n", "loss.csv")).series["loss"] == [(1, 0.5)]
