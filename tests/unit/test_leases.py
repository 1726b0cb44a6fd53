"""The rules about leases: whoever shows signs of life is never lost, whatever happens to servers, clocks and queues;
whoever does not is lost as soon as that is certain."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_server import limits
from tracker_server.model.leases import Lease, Marker, Presence, expired_before, follow, reason_of_loss

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
LEASE = Lease(120)
START = 1_700_000_000_000
TICK = SECOND
BEAT = 30 * SECOND
RETRIES = (6 * SECOND, 15 * SECOND, 11 * SECOND)
"""Until a run whose server is out of reach tries again: of each run in turn."""


@dataclass(frozen=True)
class Sign:
    """A sign of life of a run, as it lies in the queue."""

    run: str
    accepted_ms: int


@dataclass
class Server:
    """A server whose clock and reach the test decides over."""

    name: str
    offset_ms: int = 0
    frozen_at: int | None = None
    reachable: bool = True
    marked_at: int = 0
    next_name: int = 0

    def clock(self, now: int) -> int:
        return self.frozen_at if self.frozen_at is not None else now + self.offset_ms

    def restart(self) -> None:
        """Comes back as another one."""
        self.next_name += 1


@dataclass
class World:
    """True time goes by; servers put signs and markers of one partition into its queue."""

    servers: list[Server]
    healthy: Mapping[str, int]
    """Runs by name, each with the index of the only server that it can reach."""
    now: int = START
    queue: list[Sign | Marker] = field(default_factory=list)
    due: dict[str, int] = field(default_factory=dict)

    def go_on(self, milliseconds: int) -> None:
        """Everybody does what they do, for so long."""
        for _ in range(0, milliseconds, TICK):
            self.now += TICK
            for number, (run, index) in enumerate(self.healthy.items()):
                if self.now < self.due.get(run, 0):
                    continue
                server = self.servers[index]
                if server.reachable:
                    self.queue.append(Sign(run, server.clock(self.now)))
                self.due[run] = self.now + (BEAT if server.reachable else RETRIES[number % len(RETRIES)])
            for server in self.servers:
                if server.reachable and self.now - server.marked_at >= LEASE.marker_ms:
                    server.marked_at = self.now
                    self.queue.append(Marker(f"{server.name}-{server.next_name}", server.clock(self.now)))


def lost(queue: Iterable[Sign | Marker], runs: Iterable[str]) -> list[tuple[str, int]]:
    """Every loss that is noted while the queue is worked off, and the moment of the marker at which it is."""
    servers: dict[str, Presence] = {}
    seen = dict.fromkeys(runs, START)
    found = []
    for item in queue:
        if isinstance(item, Sign):
            rounded = item.accepted_ms // LEASE.seen_granularity_ms * LEASE.seen_granularity_ms
            seen[item.run] = max(seen[item.run], rounded)
            continue
        servers = follow(servers, item, LEASE)
        bound = expired_before(servers, LEASE)
        if bound is not None:
            found += [(run, item.at_ms) for run, moment in seen.items() if moment < bound]
    return found


DURATIONS = st.sampled_from([SECOND, 20 * SECOND, MINUTE, 100 * SECOND, 3 * MINUTE, 10 * MINUTE])
JUMPS = st.sampled_from([SECOND, 20 * SECOND, 36 * SECOND, 2 * MINUTE, 5 * MINUTE, HOUR, 24 * 365 * HOUR])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["on", "outage", "restart", "freeze", "freeze and catch up", "ahead", "back"]), DURATIONS, JUMPS
    ),
    max_size=8,
)


@given(events=EVENTS)
def test_no_healthy_run_is_lost_whatever_becomes_of_its_server_and_its_clock(
    events: list[tuple[str, int, int]],
) -> None:
    server = Server("a")
    world = World([server], {"healthy": 0, "late": 0})
    world.go_on(MINUTE)
    for event, duration, jump in events:
        match event:
            case "outage" | "restart":
                server.reachable = False
                world.go_on(duration)
                if event == "restart":
                    server.restart()
                server.reachable = True
            case "freeze" | "freeze and catch up":
                server.frozen_at = server.clock(world.now)
                world.go_on(duration)
                server.frozen_at = None
                if event == "freeze":
                    # From there it goes on at its pace.
                    server.offset_ms -= duration
            case "ahead":
                server.offset_ms += jump
            case "back":
                server.offset_ms -= jump
        world.go_on(duration)
    assert lost(world.queue, world.healthy) == []


@pytest.mark.parametrize(("skew", "leases"), [(5 * SECOND, 2), (10 * MINUTE, 1), (24 * HOUR, 1)])
@given(data=st.data())
def test_no_run_is_lost_that_reaches_only_one_server_of_several(skew: int, leases: int, data: st.DataObject) -> None:
    """One of them is away for up to two leases; for one where their clocks differ by however much."""
    skews = data.draw(st.lists(st.integers(0, skew), min_size=2, max_size=3), label="skews")
    away = data.draw(st.integers(0, leases * LEASE.length_ms), label="away")
    again = data.draw(st.booleans(), label="again")
    servers = [Server(f"{number}", skew) for number, skew in enumerate(skews)]
    world = World(servers, {f"run {number}": number for number in range(len(skews))})
    world.go_on(5 * MINUTE)
    servers[0].reachable = False
    world.go_on(away)
    if again:
        servers[0].restart()
    servers[0].reachable = True
    world.go_on(5 * MINUTE)
    assert lost(world.queue, world.healthy) == []


@given(seed=st.integers(0, 1_000_000))
def test_no_healthy_run_is_lost_when_messages_come_again_or_out_of_order(seed: int) -> None:
    chance = random.Random(seed)
    world = World([Server("a"), Server("b", 5 * SECOND)], {"one": 0, "two": 1, "three": 0})
    world.go_on(20 * MINUTE)
    delivered: list[Sign | Marker] = []
    queue = list(world.queue)
    while queue:
        window = queue[: chance.randrange(1, 16)]
        # A consumer died: some of what it had is delivered again, to another one, in any order.
        if chance.random() < 0.3:
            chance.shuffle(window)
            delivered += window + chance.sample(delivered, min(len(delivered), chance.randrange(10)))
        else:
            delivered += window
        del queue[: len(window)]
    assert lost(delivered, world.healthy) == []


def test_a_backlog_of_an_hour_is_judged_as_if_there_had_been_none() -> None:
    world = World([Server("a")], {"healthy": 0})
    world.go_on(HOUR)
    # "silent" was alive when the hour began. All of it is worked off at once.
    found = lost(world.queue, ["healthy", "silent"])
    assert {run for run, _ in found} == {"silent"}
    assert _first(found) <= START + LEASE.length_ms + LEASE.slack_ms + 2 * LEASE.marker_ms


@given(skews=st.lists(st.integers(0, LEASE.length_ms - LEASE.marker_ms), min_size=1, max_size=4))
def test_a_silent_run_is_lost_soon_after_its_lease(skews: list[int]) -> None:
    world = World([Server(f"{number}", skew) for number, skew in enumerate(skews)], {})
    world.go_on(10 * MINUTE)
    # The slowest clock has to get there, and the fastest one says since when there are all.
    latest = START + LEASE.length_ms + LEASE.slack_ms + 4 * LEASE.marker_ms + 2 * max(skews)
    assert START + LEASE.length_ms < _first(lost(world.queue, ["silent"])) <= latest


@pytest.mark.parametrize("away", [5 * SECOND, MINUTE, 10 * MINUTE, 5 * HOUR])
def test_after_a_restart_a_silent_run_is_lost_within_three_leases(away: int) -> None:
    server = Server("a")
    world = World([server], {"healthy": 0})
    world.go_on(30 * SECOND)
    server.reachable = False
    world.go_on(away)
    server.restart()
    server.reachable = True
    back = world.now
    world.go_on(10 * MINUTE)
    found = lost(world.queue, ["healthy", "silent"])
    assert {run for run, _ in found} == {"silent"}
    assert back + LEASE.length_ms < _first(found) <= back + 3 * LEASE.length_ms


def test_a_server_that_is_away_puts_every_judgement_off_and_one_that_is_gone_does_not() -> None:
    there, away = Server("there"), Server("away")
    world = World([there, away], {})
    world.go_on(5 * SECOND)
    away.reachable = False
    world.go_on(15 * MINUTE)
    assert START + 2 * LEASE.length_ms < _first(lost(world.queue, ["silent"])) <= START + 3 * LEASE.length_ms


def test_a_server_that_turns_writes_away_judges_nothing() -> None:
    markers = [Marker("a", START + at, interrupted=True) for at in range(0, HOUR, LEASE.marker_ms)]
    assert lost(markers, ["silent"]) == []
    calm = [Marker("a", START + HOUR + at) for at in range(0, HOUR, LEASE.marker_ms)]
    assert START + HOUR + LEASE.length_ms < _first(lost(markers + calm, ["silent"])) < START + HOUR + 3 * MINUTE


def test_a_frozen_clock_judges_nothing() -> None:
    markers = [Marker("a", START + at) for at in range(0, 2 * MINUTE, LEASE.marker_ms)]
    assert lost(markers + [markers[-1]] * 1_000, ["silent"]) == []


def test_a_clock_that_was_years_ahead_and_is_set_right_judges_again() -> None:
    ahead = [Marker("a", START + 10 * 365 * 24 * HOUR)]
    right = [Marker("a", START + at) for at in range(0, 5 * MINUTE, LEASE.marker_ms)]
    assert lost(ahead + right, ["silent"])


def test_servers_that_are_gone_leave_nothing_behind() -> None:
    servers: dict[str, Presence] = {}
    for number in range(1_000):
        servers = follow(servers, Marker(f"server-{number}", START + number * MINUTE), LEASE)
        assert len(servers) <= 3


@given(
    seconds=st.integers(4, 86_400),
    behind=st.integers(0, 10**9),
)
def test_the_times_of_a_lease_fit_each_other_however_long_it_is(seconds: int, behind: int) -> None:
    lease = Lease(seconds)
    assert 0 < lease.marker_ms * 3 < lease.gap_ms < lease.absence_ms
    assert lease.seen_granularity_ms <= limits.SEEN_GRANULARITY_MS
    # Two heartbeats may be lost, and what is stored may be as old as the slack.
    assert lease.heartbeat_seconds * 3 * SECOND < lease.length_ms + lease.slack_ms
    servers = {"a": Presence(START - behind, START)}
    bound = expired_before(servers, lease)
    assert (bound is None) == (behind <= lease.length_ms + lease.slack_ms)
    assert bound is None or bound == START - lease.length_ms - lease.slack_ms


def test_nobody_judges_where_no_server_was_heard_of() -> None:
    assert expired_before({}, LEASE) is None


def test_the_reason_says_since_when() -> None:
    assert reason_of_loss(START) == "no sign of life since 2023-11-14T22:13:20Z"
    assert "sent afterwards" in reason_of_loss(limits.MIN_TIME_MS)


def _first(found: list[tuple[str, int]]) -> int:
    assert found, "nothing was lost"
    return found[0][1]
