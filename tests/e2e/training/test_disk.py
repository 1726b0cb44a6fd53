"""A disk that is full, a directory that cannot be written to, a journal that may not grow: training goes on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers.ports import free_port
from tests.e2e.deployment import Deployment
from tests.e2e.training.jobs import Ended, Job, get_run, read_points, sync_all
from tracker.v1 import resources_pb2 as data
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

WIDTH = 100
ROWS = 4000
"""Of WIDTH metrics: 3.3 MB, more than there is room for."""

_TRAIN = f"""
import json, resource, sys
import tracker_client as tracker

if sys.argv[2] == "small-files":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1536 * 1024, 1536 * 1024))
run = tracker.init("disks", run_id=sys.argv[1], capture=False)
for step in range({ROWS}):
    run.log({{f"m{{i}}": float(step) for i in range({WIDTH})}}, step=step)
run.summary["best"] = 0.5
print(json.dumps([run.finish(timeout=float(sys.argv[3])), str(run.directory)]))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 4 MB, where one may be mounted."""
    path = tmp_path / "small"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_on_a_full_disk_what_has_room_arrives_and_the_rest_is_counted(
    small_disk: Path, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """The server is down, and the disk has room for a part."""
    job = Job(tmp_path, _TRAIN, server=f"127.0.0.1:{free_port()}", dir=small_disk)
    check_partial(job.run("full-disk", "", 0), stub, "full-disk", small_disk, server)


def test_where_files_may_not_grow_smaller_ones_do(tmp_path: Path, server: str, stub: TrackerServiceStub) -> None:
    """With a limit on the size of the process's files nothing is said and nothing is lost."""
    ended = Job(tmp_path, _TRAIN, server=server).run("small-files", "small-files", 30)
    assert ended.warnings == []
    check_whole(ended, stub, "small-files", ROWS)


@pytest.mark.parametrize("limit", [1, 1024 * 1024])
def test_a_journal_that_may_not_grow_keeps_its_first_piece_and_the_rest_is_counted(
    limit: int, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """TRACKER_JOURNAL_BYTES smaller than anything of use."""
    run_id = f"tiny-{limit}"
    job = Job(tmp_path, _TRAIN, server=f"127.0.0.1:{free_port()}", journal_bytes=limit)
    check_partial(job.run(run_id, "", 0), stub, run_id, job.journals, server)


def check_partial(ended: Ended, stub: TrackerServiceStub, run_id: str, directory: Path, server: str) -> None:
    """The script ended well, said once that there is no room, and every point has either arrived or is counted."""
    assert ended.code == 0, ended
    assert sum("new points are dropped until" in line for line in ended.warnings) == 1, ended.errors
    assert sum("found no room" in line for line in ended.warnings) == 1, ended.errors
    assert len(ended.warnings) == 2, ended.errors
    sync_all(directory, server)
    answer = get_run(stub, run_id)
    (writer,) = answer.completeness.writers
    assert answer.completeness.complete
    assert answer.run.status == data.RUN_STATUS_COMPLETED
    found = read_points(stub, [run_id], ["m0", f"m{WIDTH - 1}"])
    for points in found.values():
        assert len(points) >= 1000
        assert points == [(step, float(step)) for step, _ in points]
        assert len(points) * WIDTH + writer.dropped_points == ROWS * WIDTH


def test_a_small_journal_goes_on_as_the_server_takes_what_is_in_it(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """More is logged than the journal may ever hold at once; nothing is lost as long as it is sent in time."""
    rows = 3 * ROWS
    script = _TRAIN.replace(str(ROWS), str(rows)).replace(
        "step=step)\n", "step=step)\n    if step % 20 == 19: time.sleep(0.005)\n", 1
    )
    job = Job(tmp_path, f"import time\n{script}", server=server, journal_bytes=5 * 1024 * 1024)
    ended = job.run("small-journal", "", 30)
    assert ended.warnings == []
    check_whole(ended, stub, "small-journal", rows)


def check_whole(ended: Ended, stub: TrackerServiceStub, run_id: str, rows: int) -> None:
    """Everything is there."""
    assert ended.code == 0, ended
    assert json.loads(ended.output)[0] is True
    answer = get_run(stub, run_id)
    assert answer.completeness.complete
    assert {metric.name: metric.count for metric in answer.metrics if metric.count} == {
        f"m{i}": rows for i in range(WIDTH)
    }


@pytest.mark.parametrize("where", ["/proc/tracker", "a file"])
def test_where_nothing_can_be_written_journals_go_elsewhere(
    where: str, tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """One warning that says where; the run is complete all the same, with ranks too, which meet in a file."""
    (tmp_path / "file").touch()
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    directory = str(tmp_path / "file" / "below") if where == "a file" else where
    run_id = f"elsewhere-{where.replace('/', '-').replace(' ', '-')}"
    script = _TRAIN.replace(str(ROWS), "50")
    job = Job(tmp_path, script, server=server, dir=directory, run_id=run_id)
    ended = job.run(run_id, "", 30, TMPDIR=str(elsewhere), RANK="0", WORLD_SIZE="2")
    used = json.loads(ended.output)[1]
    assert Path(used).parent == elsewhere
    assert len(ended.warnings) == 1, ended.errors
    assert f"journals cannot be kept in {directory}" in ended.warnings[0]
    check_whole(ended, stub, run_id, 50)


def test_where_nothing_can_be_written_at_all_training_goes_on(tmp_path: Path, server: str) -> None:
    """Not even below the temporary directory: one warning, and nothing is kept."""
    script = _TRAIN.replace("import json", "import tempfile; tempfile.tempdir = '/proc'\nimport json")
    ended = Job(tmp_path, script, server=server, dir="/proc/tracker").run("nowhere", "", 30)
    assert ended.code == 0, ended
    assert len(ended.warnings) == 1, ended.errors
    assert "nothing of run nowhere can be kept" in ended.warnings[0]
    assert ended.seconds < 10


def test_a_disk_that_is_full_from_the_start_is_said_once(small_disk: Path, tmp_path: Path, server: str) -> None:
    """Not even the first piece of a journal has room."""
    (small_disk / "other").write_bytes(bytes(3_500_000))
    ended = Job(tmp_path, _TRAIN, server=server, dir=small_disk).run("no-room", "", 30)
    assert ended.code == 0, ended
    assert len(ended.warnings) == 1, ended.errors
    assert "nothing of run no-room can be kept" in ended.warnings[0]
    assert not list((small_disk / "journals").iterdir())


def test_a_run_goes_on_when_there_is_room_again(small_disk: Path, tmp_path: Path, embedded: Deployment) -> None:
    """The server is down until the disk is full, and then takes what is there: later points are kept and sent again, and
    those dropped meanwhile are counted."""
    tracker = embedded.start().server
    tracker.kill()
    script = f"""
import json, sys, time
import tracker_client as tracker
run = tracker.init("disks", run_id="again", capture=False)
row = {{f"m{{i}}": 1.0 for i in range({WIDTH})}}
step = 0
def log(count):
    global step
    for _ in range(count):
        run.log(row, step=step)
        step += 1
log({ROWS})
print("full", flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    before = run.dropped_points
    log(10)
    if run.dropped_points == before:
        break
    time.sleep(0.05)
log(1000)
print(json.dumps([run.finish(), step, run.dropped_points]))
"""
    running = Job(tmp_path, script, server=tracker.address, dir=small_disk).start()
    assert running.line() == "full"
    tracker.start()
    running.tell("go on")
    ended = running.wait()
    sent, steps, dropped = json.loads(ended.output)
    assert sent, ended
    assert sum("new points are dropped until" in line for line in ended.warnings) == 1, ended.errors
    answer = get_run(embedded.stub(), "again")
    (writer,) = answer.completeness.writers
    assert answer.completeness.complete
    assert 0 < writer.dropped_points == dropped < steps * WIDTH
    assert [metric.count for metric in answer.metrics] == [steps - dropped // WIDTH] * WIDTH
    points = read_points(embedded.stub(), ["again"], ["m0"])["again", "m0"]
    assert points[-1] == (steps - 1, 1.0)
