"""When a heartbeat is worth a write, and what it is answered."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from tracker.v1 import tracker_service_pb2 as public
from tracker_server.errors import TrackerError
from tracker_server.identity import Identity
from tracker_server.ingest import Ingest
from tracker_server.model.leases import DEFAULT_LEASE, Lease

MAX_REMEMBERED_RUNS: Final = 100_000
"""Attempts of runs whose last heartbeat is remembered: some 30 MB."""


class StopFlags(Protocol):
    """Which runs were asked to stop, as far as this process knows. Never waits."""

    def stop_requested(self, run_id: str, attempt: int) -> bool:
        """Whether somebody asked this attempt of the run to stop."""


class Heartbeats:
    """Takes heartbeats. All calls on the event loop.

    Of each attempt of a run at most one in Lease.seen_granularity_ms becomes a write: the ranks of a large job all send
    them. A broker that is out of reach is no reason for a run to be told anything, until so long has passed that its
    lease is in danger.
    """

    def __init__(
        self,
        ingest: Ingest,
        identity: Identity,
        stop_flags: StopFlags,
        lease: Lease = DEFAULT_LEASE,
        monotonic: Callable[[], float] = time.monotonic,
        max_remembered_runs: int = MAX_REMEMBERED_RUNS,
    ) -> None:
        self._ingest = ingest
        self._identity = identity
        self._stop_flags = stop_flags
        self._lease = lease
        self._interval_seconds = lease.seen_granularity_ms / 1000
        self._monotonic = monotonic
        self._max_remembered_runs = max_remembered_runs
        self._pulses: OrderedDict[tuple[str, int], _Pulse] = OrderedDict()

    async def beat(self, request: public.HeartbeatRequest, timeout: float | None) -> public.HeartbeatResponse:
        """Answers a heartbeat that was validated.

        Raises what Ingest.submit raises when no heartbeat of this attempt could be written for half a lease, or when
        it never can be.
        """
        now = self._monotonic()
        pulse = self._pulse(request.run_id, request.attempt, now)
        if now - pulse.tried >= self._interval_seconds:
            await self._write(request, pulse, now, timeout)
        return public.HeartbeatResponse(
            stop_requested=self._stop_flags.stop_requested(request.run_id, request.attempt),
            lease_seconds=self._lease.seconds,
        )

    async def _write(self, request: public.HeartbeatRequest, pulse: _Pulse, now: float, timeout: float | None) -> None:
        pulse.tried = now  # before waiting, so that others who come meanwhile do not write too
        written = False
        try:
            await self._ingest.submit(self._identity.stamp(request), timeout)
            written = True
        except TrackerError as error:
            if error.retry_after is None or now - pulse.accepted > self._lease.seconds / 2:
                raise
        finally:
            if written:
                pulse.accepted = max(pulse.accepted, now)
            else:
                pulse.tried = _NEVER  # the next one tries again

    def _pulse(self, run_id: str, attempt: int, now: float) -> _Pulse:
        key = (run_id, attempt)
        pulse = self._pulses.get(key)
        if pulse is None:
            pulse = self._pulses[key] = _Pulse(now)
            if len(self._pulses) > self._max_remembered_runs:
                self._pulses.popitem(last=False)
        else:
            self._pulses.move_to_end(key)
        return pulse


class _Pulse:
    """What is known of one attempt's heartbeats, in seconds of the monotonic clock."""

    __slots__ = ("accepted", "tried")

    def __init__(self, now: float) -> None:
        self.accepted = now  # of one never seen before nothing is known; it gets the benefit of the doubt
        self.tried = _NEVER


_NEVER: Final = float("-inf")
