"""Servers, and processes that train, under a clock that the test turns: what they put into the queues of the partitions,
and who of them lives. Servers go away, come back, come back as others, turn writes away, and have their clocks set;
processes die, are silent for a while, are resumed, end, and send their journals afterwards; people stop, delete and
restore runs."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.contract.store_writes import T, complete, points, start, update, write
from tracker_server.lease_markers import scope_in
from tracker_server.model.leases import Lease
from tracker_server.model.typed_json import Json
from tracker_server.model.writes import Body, Heartbeat, LeaseMarker, RewindRun, Write
from tracker_server.partitions import partition_of

SECOND: Final = 1_000
LEASE: Final = Lease()
TICK: Final = 5 * SECOND
BEAT: Final = 30 * SECOND
RETRY: Final = 10 * SECOND
"""Until a process whose server is away tries again."""
BUSY: Final = 800 * SECOND
"""How long things happen."""
CALM: Final = 4 * LEASE.length_ms
"""Then nothing happens any more, for so long that whoever is silent is certain to be lost."""


@dataclass
class Server:
    """One server process after the other under one address."""

    name: str
    skew_ms: int
    lives: int = 0
    away_until: int = 0
    full_until: dict[int, int] = field(default_factory=dict)
    """By partition: until then it turns all writes of that away but its markers."""
    interrupted: set[int] = field(default_factory=set)
    """Partitions of which it had to turn writes away since its last marker."""

    @property
    def server_id(self) -> str:
        """As it says in its markers."""
        return f"{self.name}-{self.lives}"


@dataclass
class Process:
    """One attempt of a run. It reaches one server only."""

    run: str
    attempt: int
    server: Server
    due: int
    sequence: int = 0
    steady: bool = True
    """It has never been silent but for what became of its server."""
    offline: bool = False
    """All it logs comes afterwards, from its journal."""
    gone: bool = False
    """Nothing is heard of it any more, whether it ended or not."""

    @property
    def writer(self) -> str:
        """Its writer id."""
        return f"{self.run}-{self.attempt:020}"


class World:
    """Call `go_on` once; then `queues` has what lies in each partition, in its order."""

    def __init__(self, runs: Sequence[str], partitions: int, dice: random.Random) -> None:
        self._dice = dice
        self._partitions = partitions
        self._here = sorted({partition_of(run, partitions) for run in runs})
        names = dice.choice(["a", "ab"])
        self._servers = [Server(f"server-{runs[0]}-{name}", dice.choice([0, 5, 60]) * SECOND) for name in names]
        self._jump_ms = dice.choice([40, 90, 300]) * SECOND
        """A clock without another one beside it is set by so much, ahead and back in turn."""
        self._now = T
        self._changes = 0
        self._settled_at = T
        """Until then no further outage begins: a process that reaches no server for long enough is lost, and rightly so."""
        self.runs = runs
        self.processes: list[Process] = []
        self.queues: defaultdict[int, list[Write]] = defaultdict(list)
        for run in runs:
            self._begin(run, dice.choice([0, 1]), offline=dice.random() < 0.2)

    @property
    def expired_before(self) -> int:
        """Who has shown no sign of life since then is lost in the end; all others are alive."""
        return self._now - LEASE.length_ms - LEASE.slack_ms

    def go_on(self) -> None:
        """Everybody does what they do, until all is calm."""
        while self._now < max(T + BUSY, self._settled_at) + CALM:
            self._now += TICK
            if self._now < T + BUSY:
                self._something_happens()
            for process in self.processes:
                if not process.gone and not process.offline and process.due <= self._now:
                    self._beat(process)
            if self._now % LEASE.marker_ms == 0:
                self._mark()

    def _mark(self) -> None:
        for server in self._servers:
            if server.away_until > self._now:
                continue
            for partition in self._here:
                body = LeaseMarker(server.server_id, partition, partition in server.interrupted)
                scope = scope_in(partition, self._partitions)
                at = self._now + server.skew_ms
                self.queues[partition].append(Write(scope, "", 0, 0, at, False, False, body))
            server.interrupted.clear()

    def _beat(self, process: Process) -> None:
        if not self._takes(process):
            process.due = self._now + RETRY
            return
        process.due = self._now + BEAT
        bodies: list[Body] = [Heartbeat(), Heartbeat(), self._points(), update(self._now, {"notes": "x"})]
        self._send(process, self._dice.choice(bodies))

    def _something_happens(self) -> None:
        what, dice = self._dice.random(), self._dice
        process = dice.choice(self.processes)
        if what < 0.1:
            self._outage()
        elif what < 0.12:
            server, partition = dice.choice(self._servers), dice.choice(self._here)
            server.full_until[partition] = self._now + dice.choice([20, 100, 200, 300]) * SECOND
        elif what < 0.14:
            self._set_clock()
        elif what < 0.2:
            self._outside(process.run)
        elif process.gone:
            if what < 0.3:
                self._resume(process)
            elif what < 0.4:
                # More of its journal is found.
                self._send(process, self._points(), replay=True)
        elif process.offline:
            if what < 0.7:
                self._replay(process)
        elif what < 0.23:
            process.steady, process.gone = False, True
        elif what < 0.26:
            # As if its machine had slept: its run may be lost, and lives when it is back.
            process.steady = False
            process.due = self._now + dice.randint(100, 400) * SECOND
        elif what < 0.28 and self._takes(process):
            self._send(process, complete({"m": 1.0}, at=self._now))
            process.gone = True
        elif what < 0.33:
            # Somebody syncs a journal of the same attempt, too.
            self._send(process, self._points(), replay=True)

    def _takes(self, process: Process) -> bool:
        """Whether the process's server takes its writes; turns one away if not."""
        server, partition = process.server, partition_of(process.run, self._partitions)
        if server.away_until > self._now:
            return False
        if server.full_until.get(partition, 0) > self._now:
            server.interrupted.add(partition)
            return False
        return True

    def _outage(self) -> None:
        """Of one server, for less than the two leases that it is waited for; or of all, for however long."""
        if self._now < self._settled_at:
            return
        seconds = self._dice.choice([20, 60, 100, 115, 130, 180])
        away = [self._dice.choice(self._servers)]
        if self._dice.random() < 0.4:
            away, seconds = self._servers, seconds * self._dice.choice([1, 1, 3])
        for server in away:
            server.away_until = self._now + seconds * SECOND
            server.lives += self._dice.random() < 0.5
        self._settled_at = self._now + seconds * SECOND + LEASE.length_ms * self._dice.choice([1, 2])

    def _set_clock(self) -> None:
        if len(self._servers) == 1:
            self._servers[0].skew_ms += self._jump_ms
            self._jump_ms = -self._jump_ms

    def _outside(self, run: str) -> None:
        """What people do says nothing of a run's life."""
        asked: list[dict[str, Json]] = [{"deleted_ms": self._now}, {"deleted_ms": None}, {"stop_requested": True}]
        self._changes += 1
        body = replace(update(self._now, self._dice.choice(asked)), from_outside=True)
        self._put(write(self._changes, body, run=run, writer="a-server-000000000", server_assigned=True))

    def _resume(self, process: Process) -> None:
        """Its run goes on from a checkpoint."""
        newest = max(one.attempt for one in self.processes if one.run == process.run)
        resumed = self._begin(process.run, newest + 1)
        if self._takes(resumed):
            self._send(resumed, RewindRun(self._now, self._dice.randrange(5)))

    def _replay(self, process: Process) -> None:
        """All at once, with or without an end."""
        at = self._now - 86_400 * SECOND
        bodies = [start(at=at), self._points(at), *([complete(at=at)] if self._dice.random() < 0.4 else [])]
        for body in bodies:
            self._send(process, body, replay=True)
        process.gone, process.steady = True, False

    def _begin(self, run: str, attempt: int, *, offline: bool = False) -> Process:
        process = Process(run, attempt, self._dice.choice(self._servers), self._now, offline=offline)
        self.processes.append(process)
        return process

    def _points(self, at: int | None = None) -> Body:
        step = self._dice.randrange(20)
        return points([step], [1.0], times=[self._now if at is None else at])

    def _send(self, process: Process, body: Body, *, replay: bool = False) -> None:
        numbered = not isinstance(body, Heartbeat)
        process.sequence += numbered
        sequence, writer = (process.sequence, process.writer) if numbered else (0, "")
        one = write(sequence, body, run=process.run, writer=writer, attempt=process.attempt, replay=replay)
        self._put(replace(one, accepted_ms=self._now + process.server.skew_ms))

    def _put(self, one: Write) -> None:
        self.queues[partition_of(one.scope_id, self._partitions)].append(one)
