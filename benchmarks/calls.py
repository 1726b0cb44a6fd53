"""Small calls a second, held against a bare grpc.aio server that only answers.

`python -m benchmarks.calls echo` is that server; it prints its port. `python -m benchmarks.calls ADDRESS METHOD CALLERS
CALLS` is the client, an asyncio program with so many callers, on one connection, or with `apart` on one each, as callers of
several processes have; it prints calls a second and the median and 99th percentile of their times in seconds.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from benchmarks.forms import Form
from tests.e2e.processes import ROOT
from tracker.v1 import resources_pb2 as data
from tracker.v1 import tracker_service_pb2 as messages
from tracker_client.channel import open_aio_channel
from tracker_client.endpoint import endpoint

_SERVICE = "tracker.v1.TrackerService"
RUN = "bench-calls"
EXPERIMENT = "bench-calls"
_TURNS = 5


@dataclass(frozen=True, slots=True)
class CallRate:
    """How fast calls are answered."""

    per_second: float
    median_seconds: float
    p99_seconds: float


def measure(form: Form, address: str, method: str, callers: int, count: int, *, apart: bool = False) -> CallRate:
    """Makes so many calls. apart: each caller has a connection of its own."""
    command = [sys.executable, "-m", "benchmarks.calls", address, method, str(callers), str(count)]
    command += ["apart"] if apart else []
    done = subprocess.run(
        command, cwd=ROOT, env=form.deployment.environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return CallRate(*map(float, done.stdout.split()))


def by_turns(
    form: Form, echo: str, method: str, callers: int, count: int, *, apart: bool = False
) -> tuple[CallRate, CallRate]:
    """Of the tracker and of the echo, measured in turn, each the one with the median rate.

    The echo is asked with as few bytes: it has no summary to give.
    """
    found, bare = [], []
    for _ in range(_TURNS):
        bare.append(measure(form, echo, "StartRun" if method == "GetSummary" else method, callers, count, apart=apart))
        found.append(measure(form, form.address, method, callers, count, apart=apart))
    return _middle(found), _middle(bare)


@contextmanager
def second_server(form: Form) -> Iterator[None]:
    """One more server on the port of the first."""
    server = form.deployment.add("serve", listen=form.address).start()
    try:
        yield
    finally:
        server.terminate()
        server.wait()


@contextmanager
def echo_server(form: Form) -> Iterator[str]:
    """The address of a bare server."""
    command = [sys.executable, "-m", "benchmarks.calls", "echo"]
    environment = form.deployment.environment
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def _middle(rates: list[CallRate]) -> CallRate:
    return sorted(rates, key=lambda rate: rate.per_second)[len(rates) // 2]


def _requests(method: str) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        if method == "LogMetric":
            request = messages.LogMetricRequest(run_id=RUN, name="loss", value=0.5, step=number)
            yield request.SerializeToString()
        elif method == "StartRun":
            yield messages.StartRunRequest(
                run_id=f"{RUN}-{time.time_ns()}", experiment_id=EXPERIMENT
            ).SerializeToString()
        else:
            yield messages.GetSummaryRequest(experiment_id=EXPERIMENT).SerializeToString()


async def _prepare(channel: grpc.aio.Channel) -> None:
    """An experiment with something to summarize."""
    log: Any = channel.unary_unary(f"/{_SERVICE}/LogMetrics")
    start: Any = channel.unary_unary(f"/{_SERVICE}/StartRun")
    block = data.MetricBlock(steps=[1], columns=[data.MetricColumn(name=f"m{n}", values=[n]) for n in range(20)])
    for number in range(20):
        run_id = f"{RUN}-{number}"
        await start(messages.StartRunRequest(run_id=run_id, experiment_id=EXPERIMENT).SerializeToString())
        await log(messages.LogMetricsRequest(run_id=run_id, blocks=[block]).SerializeToString())


async def _client(address: str, method: str, callers: int, count: int, *, apart: bool) -> CallRate:
    async with AsyncExitStack() as opened:
        channels = [
            await opened.enter_async_context(open_aio_channel(endpoint(address), own_connection=True))
            for _ in range(callers if apart else 1)
        ]
        if method == "GetSummary":
            await _prepare(channels[0])
        requests = _requests(method)
        # Connected before it counts.
        await asyncio.gather(*(_call(channel, method)(next(requests), wait_for_ready=True) for channel in channels))
        times: list[float] = []

        async def caller(number: int) -> None:
            call = _call(channels[number % len(channels)], method)
            for _ in range(count // callers):
                began = time.perf_counter()
                await call(next(requests), timeout=30)
                times.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        seconds = time.perf_counter() - began
    times.sort()
    return CallRate(len(times) / seconds, times[len(times) // 2], times[int(len(times) * 0.99)])


def _call(channel: grpc.aio.Channel, method: str) -> Any:
    return channel.unary_unary(f"/{_SERVICE}/{method}")


async def _echo() -> None:
    async def answer(request: bytes, _context: object) -> bytes:
        return request

    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(answer)
        for name in ("LogMetric", "LogMetrics", "StartRun", "GetSummary")
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        asyncio.run(_echo())
    else:
        rate = asyncio.run(
            _client(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), apart=sys.argv[5:] == ["apart"])
        )
        print(rate.per_second, rate.median_seconds, rate.p99_seconds)
