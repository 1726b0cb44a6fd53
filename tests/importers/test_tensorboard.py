"""TensorBoard event files, written by TensorBoard's own writer and by tensorboardX."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto
from tensorboardX import SummaryWriter

from tests.importers.reading import read_all, read_one
from tracker.v1.resources_pb2 import RunStatus
from tracker_client.importers.records import ReadError

VALUES = [0.5, math.nan, math.inf, -math.inf, -0.0, 1e-30]


def write_v1(folder: Path, steps: range, suffix: str = "", name: str = "loss") -> Path:
    """One file in TF1's form; returns it."""
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for step in steps:
            writer.add_scalar(name, VALUES[step % len(VALUES)], step, walltime=1_700_000_000 + step)
    return max(folder.iterdir())


def write_v2(folder: Path) -> None:
    """One file in TF2's form: tensors, with the plugin named at a tag's first value only."""
    writer = EventFileWriter(str(folder))
    for step, number in enumerate(VALUES):
        value = Summary.Value(tag="loss", tensor=make_tensor_proto(np.float32(number)))
        if not step:
            value.metadata.CopyFrom(SummaryMetadata(plugin_data={"plugin_name": "scalars"}))
        writer.add_event(Event(step=step, wall_time=1_700_000_000 + step, summary=Summary(value=[value])))
    writer.close()


def record_ends(data: bytes) -> Iterator[int]:
    """Where each record of a file ends."""
    end = 0
    while end < len(data):
        end += 16 + struct.unpack_from("<Q", data, end)[0]
        yield end


def test_both_forms_of_scalars_give_the_same_points(tmp_path: Path) -> None:
    write_v1(tmp_path / "one", range(6))
    write_v2(tmp_path / "two")
    one, two = read_all(tmp_path)
    expected = [float(np.float32(value)) for value in VALUES]
    for read in (one, two):
        assert [step for step, _ in read.series["loss"]] == list(range(6))
        assert repr([value for _, value in read.series["loss"]]) == repr(expected)
        assert read.times_ms["loss"] == [1_700_000_000_000 + 1_000 * step for step in range(6)]
        assert not read.problems
        assert read.end
        assert read.end.ended_ms == 1_700_000_005_000


def test_all_files_of_a_folder_are_one_run_and_repeated_steps_stay(tmp_path: Path) -> None:
    write_v1(tmp_path, range(4), ".a")
    write_v1(tmp_path, range(2, 6), ".b")
    assert [step for step, _ in read_one(tmp_path).series["loss"]] == [0, 1, 2, 3, 2, 3, 4, 5]


def test_a_file_cut_off_at_any_byte_gives_its_whole_records_and_is_named(tmp_path: Path) -> None:
    whole = write_v1(tmp_path / "run", range(3))
    data = whole.read_bytes()
    # The first record is the version of the file.
    ends = list(record_ends(data))
    assert len(ends) == 4
    for size in range(len(data)):
        whole.write_bytes(data[:size])
        if 0 < size < ends[0]:
            with pytest.raises(ReadError, match="cut off or damaged"):
                read_one(tmp_path / "run")
            continue
        read = read_one(tmp_path / "run")
        complete = sum(end <= size for end in ends)
        assert [step for step, _ in read.series.get("loss", [])] == list(range(complete - 1))
        if size in (0, *ends):
            assert not read.problems
        else:
            (problem,) = read.problems
            assert problem.path == str(whole)
            assert problem.where == f"byte {([0, *ends])[complete]}"


def test_what_is_behind_a_damaged_record_is_left_out_and_told(tmp_path: Path) -> None:
    whole = write_v1(tmp_path / "run", range(6))
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 0xFF
    whole.write_bytes(data)
    read = read_one(tmp_path / "run")
    assert 0 < len(read.series["loss"]) < 6
    assert [problem.path for problem in read.problems] == [str(whole)]


def test_the_hparams_plugin_gives_config_status_and_end(tmp_path: Path) -> None:
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=1_700_000_000)
    start.hparams["lr"].number_value = 0.5
    start.hparams["depth"].number_value = 4
    start.hparams["optimizer"].string_value = "adam"
    start.hparams["nesterov"].bool_value = True
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_FAILURE, end_time_secs=1_700_000_100)
    writer = EventFileWriter(str(tmp_path))
    for tag, data in (
        ("_hparams_/session_start_info", plugin_data_pb2.HParamsPluginData(session_start_info=start)),
        ("_hparams_/session_end_info", plugin_data_pb2.HParamsPluginData(session_end_info=end)),
    ):
        value = Summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = "hparams"
        value.metadata.plugin_data.content = data.SerializeToString()
        writer.add_event(Event(wall_time=1_700_000_000, summary=Summary(value=[value])))
    writer.close()
    read = read_one(tmp_path)
    assert read.config == {"lr": 0.5, "depth": 4, "optimizer": "adam", "nesterov": True}
    assert isinstance(read.config["depth"], int)
    assert read.end
    assert read.end.status == RunStatus.RUN_STATUS_FAILED
    assert read.end.ended_ms == 1_700_000_100_000
    assert not read.ignored


def test_lightnings_hparams_file_is_the_config(tmp_path: Path) -> None:
    write_v1(tmp_path, range(2))
    (tmp_path / "hparams.yaml").write_text("lr: 0.001\nlayers: [64, 32]\n")
    assert read_one(tmp_path).config == {"lr": 0.001, "layers": [64, 32]}


def test_a_config_of_python_objects_is_told_and_the_points_go_in(tmp_path: Path) -> None:
    write_v1(tmp_path, range(2))
    (tmp_path / "hparams.yaml").write_text("model: !!python/object:some.Model {}\n")
    read = read_one(tmp_path)
    assert len(read.series["loss"]) == 2
    assert "config was left out" in read.problems[0].what


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, in tensorboardX
def test_other_summaries_are_counted_as_ignored(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 0)
        writer.add_histogram("weights", np.arange(10.0), 0)
        writer.add_histogram("weights", np.arange(10.0), 1)
        writer.add_text("notes", "words", 0)
    read = read_one(tmp_path)
    assert set(read.series) == {"loss"}
    assert read.ignored["weights"] == 2
    assert sum(read.ignored.values()) == 3


def test_another_training_in_a_folder_of_the_same_path_is_another_run(tmp_path: Path) -> None:
    file = write_v1(tmp_path, range(2))
    before = read_one(tmp_path).source.run_id
    file.rename(tmp_path / "events.out.tfevents.1800000000.elsewhere.1")
    assert read_one(tmp_path).source.run_id != before
