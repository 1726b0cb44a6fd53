"""What the client takes of a training process: modules, threads, files, memory; and that it lets go of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.servers.ports import free_port
from tests.e2e.training.jobs import Job, get_run, sender_pids
from tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub

MB = 1024 * 1024

_MODULES = """
import sys
sys.modules["numpy"] = None
import json
before = set(sys.modules)
import tracker_client as tracker
imported = set(sys.modules)
run = tracker.init("footprint", run_id=sys.argv[1])
for step in range(100):
    run.log({"loss": 1.0})
run.finish()
print(json.dumps([len(imported - before), sorted(set(sys.modules) - before)]))
"""


def test_training_imports_little_and_never_grpc(tmp_path: Path, server: str) -> None:
    """The package itself next to nothing; a run with all captures the standard library's, protobuf's and our own modules,
    and neither grpc, asyncio nor anything scientific."""
    ended = Job(tmp_path, _MODULES, server=server).run("modules")
    assert (ended.code, ended.errors) == (0, "")
    at_import, modules = json.loads(ended.output)
    assert at_import < 20
    tops = {name.partition(".")[0] for name in modules}
    assert not tops & {"grpc", "asyncio", "concurrent", "tracker_server", "pandas", "torch", "ssl", "http"}
    assert tops - set(sys.stdlib_module_names) <= {"tracker", "tracker_client", "google", "psutil", "pynvml"}
    assert len(modules) < 250


_MANY = """
import gc, json, os, sys, threading
import tracker_client as tracker

def count():
    gc.collect()
    with open("/proc/self/maps") as maps:
        mapped = sum(".tracker" in line for line in maps)
    return [len(os.listdir("/proc/self/fd")), threading.active_count(), mapped]

def one(number):
    with tracker.init("footprint", run_id=f"many-{number}", capture=number % 10 == 0) as run:
        for step in range(10):
            run.log({"loss": 1.0})

one(0)
before = count()
for number in range(1, 51):
    one(number)
print(json.dumps([before, count()]))
"""


def test_fifty_runs_in_one_process_leave_no_files_threads_or_maps_behind(
    tmp_path: Path, server: str, stub: TrackerServiceStub
) -> None:
    """All are complete, and what is open afterwards is what was open after the first; no journal is left."""
    job = Job(tmp_path, _MANY, server=server)
    ended = job.run()
    assert (ended.code, ended.errors) == (0, "")
    before, after = json.loads(ended.output)
    assert before == after
    job.sync()
    assert all(get_run(stub, f"many-{number}").completeness.complete for number in range(51))


_LEAVE = """
import os, sys, time
import tracker_client as tracker
from tracker_client.sender.lock import sender_at_work
run = tracker.init("footprint", capture=False)
run.log({"loss": 1.0})
while not sender_at_work(run.directory, os.environ["TRACKER_SERVER"]): time.sleep(0.01)
run.finish(timeout=0)
print("over")
"""


def test_the_pipes_of_a_script_close_when_it_ends_though_its_sender_lives(tmp_path: Path) -> None:
    """With the server out of reach the sender goes on for a while: whoever waits for the script's output does not wait
    for it. The descriptors that the script was given are not passed on either."""
    job = Job(tmp_path, _LEAVE, server=f"127.0.0.1:{free_port()}")
    read, write = os.pipe()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(job.script)],
        env=job.environment,
        cwd=job.directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        pass_fds=[write],
    )
    assert done.stdout == "over\n"
    # It lives, and its script's output has been read to the end.
    (sender,) = sender_pids(job.journals)
    files = {str(path.readlink()) for path in Path(f"/proc/{sender}/fd").iterdir()}
    os.close(write)
    assert os.read(read, 1) == b"", files
    os.close(read)


_IDLE = """
import json, resource, sys, time
import tracker_client as tracker

def rss(pid="self"):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

run = tracker.init("footprint", run_id="memory", capture=False)
run.log({"m0": 1.0})
print("idle", flush=True)
sys.stdin.readline()
idle = peak = rss()
row = {f"m{i}": 1.0 for i in range(100)}
began = time.perf_counter()
for step in range(100_000):
    run.log(row, step=step)
    if step % 1000 == 0:
        peak = max(peak, rss())
        time.sleep(0.005)  # still some ten million points a second
logged = time.perf_counter() - began
peak = max(peak, rss())
print(json.dumps([idle, peak, logged, run.dropped_points]), flush=True)
sys.stdin.readline()
print(rss(), flush=True)
"""


@pytest.mark.timeout(120)
def test_ten_million_points_unsent_take_little_memory(tmp_path: Path) -> None:
    """With the server down, training and its sender together stay within 50 MB of what they were idle, at every moment
    of the logging and after it; and nothing is dropped."""
    job = Job(tmp_path, _IDLE, server=f"127.0.0.1:{free_port()}")
    running = job.start()
    assert running.line() == "idle"
    deadline = time.monotonic() + 10
    while not sender_pids(job.journals) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.5)  # its imports, and its first attempt to connect
    (sender,) = sender_pids(job.journals)
    sender_idle = rss(sender)
    running.tell("log")
    idle, peak, seconds, dropped = json.loads(running.line())
    sender_peak = 0
    for _ in range(20):
        sender_peak = max(sender_peak, rss(sender))
        time.sleep(0.1)
    running.tell("end")
    later = int(running.line())
    running.process.kill()
    running.wait()
    report = f"training {idle / MB:.1f} -> {peak / MB:.1f} -> {later / MB:.1f} MB in {seconds:.2f} s, sender "
    report += f"{sender_idle / MB:.1f} -> {sender_peak / MB:.1f} MB, {dropped} dropped"
    assert peak - idle + sender_peak - sender_idle < 50 * MB, report
    assert later - idle < 50 * MB, report
    assert dropped == 0, report


def rss(pid: int) -> int:
    """Bytes of memory that a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
