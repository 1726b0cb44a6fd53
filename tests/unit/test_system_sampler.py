"""The system metrics: what they say agrees with what was done, whatever is installed and whatever fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import psutil
import pynvml
import pytest

from tracker_client.captures import SystemSampler
from tracker_client.captures.procfs import read_procfs
from tracker_client.captures.usage import Usage, rates, shares

_CHEAP = {
    "system/cpu_percent",
    "system/process_cpu_percent",
    "system/memory_percent",
    "system/memory_available_bytes",
    "system/process_memory_bytes",
    "system/process_threads",
}


@pytest.fixture(params=["psutil", "procfs"])
def sampler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SystemSampler:
    """With psutil, and as in an image without it."""
    if request.param == "procfs":
        monkeypatch.setitem(sys.modules, "psutil", None)
    return SystemSampler()


def test_the_second_sample_has_shares(sampler: SystemSampler) -> None:
    first = sampler.sample()
    _work(0.1)
    second = sampler.sample()
    assert set(second) >= _CHEAP
    assert set(first) >= _CHEAP - {"system/cpu_percent", "system/process_cpu_percent"}
    assert "system/process_cpu_percent" not in first
    assert all(type(value) is float for value in second.values())
    assert 0 < second["system/process_cpu_percent"] <= 100 * (os.cpu_count() or 1)
    assert 0 <= second["system/cpu_percent"] <= 100


def _work(seconds: float) -> None:
    """Spends this much processor time, in this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_levels_are_those_of_this_process(sampler: SystemSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    before = sampler.sample()["system/process_threads"]
    threads = [threading.Thread(target=held.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    values = sampler.sample()
    held.set()
    for thread in threads:
        thread.join()
    # psutil itself does not work while it is hidden.
    monkeypatch.undo()
    assert values["system/process_threads"] == before + 3
    assert values["system/process_memory_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert values["system/memory_percent"] == pytest.approx(psutil.virtual_memory().percent, abs=5)


def test_another_process_can_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sampler = SystemSampler(process.pid)
        threads = sampler.sample()["system/process_threads"]
        process.communicate(b"\n")
    assert threads == 1
    assert sampler.sample() == {}
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert SystemSampler(process.pid).sample() == {}


def test_network_and_disk_are_rates() -> None:
    sampler = SystemSampler()
    sampler.sample()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            for _ in range(64):
                sender.sendall(bytes(16_384))
                left = 16_384
                while left:
                    left -= len(receiver.recv(left))
    values = sampler.sample()
    assert values["system/network_sent_bytes_per_second"] > 0
    assert values["system/network_received_bytes_per_second"] > 0
    assert 0 < values["system/disk_used_percent"] <= 100


def test_a_sample_is_cheap(sampler: SystemSampler) -> None:
    sampler.sample()
    began = time.thread_time()
    for _ in range(10):
        sampler.sample()
    assert (time.thread_time() - began) / 10 < 0.02


def test_a_broken_psutil_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("not on this kernel")

    monkeypatch.setattr(psutil, "virtual_memory", broken)
    assert SystemSampler().sample() == {}


def test_what_a_system_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    sampler = SystemSampler(disk="/there/is/no/such/directory")
    sampler.sample()
    _work(0.05)
    values = sampler.sample()
    assert set(values) >= _CHEAP
    assert not [name for name in values if name.startswith("system/disk")]


def test_no_proc_is_an_error_that_the_sampler_swallows(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="stat"):
        read_procfs(os.getpid(), tmp_path)


def test_rates_and_shares_between_two_readings() -> None:
    before = Usage(at=10, levels={}, cpu_busy=5, cpu_total=20, process_cpu=1, counters={"sent": 100, "reset": 9})
    after = Usage(
        at=12, levels={}, cpu_busy=6, cpu_total=24, process_cpu=4, counters={"sent": 300, "reset": 3, "new": 1}
    )
    assert shares(before, after) == {"cpu_percent": 25, "process_cpu_percent": 150}
    assert rates(before, after) == {"sent_per_second": 100}
    assert shares(after, after) == rates(after, after) == {}


class _Nvml(types.SimpleNamespace):
    """NVIDIA's library on a machine with two GPUs; the second does not tell its use, as a partitioned one."""

    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlInit(self) -> None:  # noqa: N802  # its name there
        """Works."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802  # its name there
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802  # its name there
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802  # its name there
        return f"GPU-{handle}aaaa-bbbb"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> types.SimpleNamespace:  # noqa: N802  # its name there
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return types.SimpleNamespace(gpu=93, memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> types.SimpleNamespace:  # noqa: N802  # its name there
        return types.SimpleNamespace(used=2 * 2**30 * (handle + 1), total=8 * 2**30, free=0)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802  # its name there
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 60 + handle

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802  # its name there
        return 250_500 + handle


@pytest.mark.parametrize(("visible", "seen"), [(None, {0, 1}), ("1", {1}), ("GPU-0aaaa", {0}), ("", set())])
def test_gpus_that_the_process_may_see(visible: str | None, seen: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _Nvml())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    values = {name: value for name, value in SystemSampler().sample().items() if name.startswith("system/gpu")}
    expected = {
        0: {"utilization_percent": 93.0, "memory_percent": 25.0, "temperature_celsius": 60.0, "power_watts": 250.5},
        1: {"memory_percent": 50.0, "temperature_celsius": 61.0, "power_watts": 250.501},
    }
    shown = {f"system/gpu{index}/{name}": value for index in seen for name, value in expected[index].items()}
    shown |= {f"system/gpu{index}/memory_used_bytes": 2.0 * 2**30 * (index + 1) for index in seen}
    assert values == shown


def test_the_stand_in_has_the_librarys_names() -> None:
    assert all(hasattr(pynvml, name) for name in vars(_Nvml) if name.startswith("nvml"))


def test_without_a_driver_there_are_no_gpus() -> None:
    """The real library, on whatever machine this is."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        count = 0
    gpus = {name.split("/")[1] for name in SystemSampler().sample() if name.startswith("system/gpu")}
    assert len(gpus) <= count
