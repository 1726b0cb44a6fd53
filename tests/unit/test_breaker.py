"""The circuit breaker."""

import pytest

from tracker_server.cache.breaker import Breaker, BreakerState


class Bench:
    """A breaker with a clock that is set by hand."""

    def __init__(self, random: float = 0.5) -> None:
        self.now = 100.0
        self.breaker = Breaker(clock=lambda: self.now, random=lambda: random)

    def open_seconds(self) -> float:
        """How long it stays open from now, to a hundredth."""
        begun = self.now
        while not self.breaker.probe_due():
            self.now += 0.01
        return self.now - begun


def test_it_begins_closed_and_stays_so_while_calls_work() -> None:
    bench = Bench()
    assert bench.breaker.closed
    bench.breaker.success()
    assert bench.breaker.closed
    assert not bench.breaker.probe_due()


def test_one_failure_opens_it_for_half_a_second() -> None:
    bench = Bench()
    bench.breaker.failure()
    states = [bench.breaker.state]
    assert bench.open_seconds() == pytest.approx(0.5, abs=0.02)
    states.append(bench.breaker.state)
    assert states == [BreakerState.OPEN, BreakerState.HALF_OPEN]


def test_half_open_lets_one_probe_through() -> None:
    bench = Bench()
    bench.breaker.failure()
    bench.now += 1
    assert bench.breaker.probe_due()
    bench.now += 100
    assert not bench.breaker.probe_due()
    assert not bench.breaker.closed
    bench.breaker.success()
    assert bench.breaker.closed


def test_each_failed_probe_doubles_the_time_up_to_ten_seconds() -> None:
    bench = Bench()
    times = []
    for _ in range(8):
        bench.breaker.failure()
        times.append(bench.open_seconds())
    assert times == pytest.approx([0.5, 1, 2, 4, 8, 10, 10, 10], abs=0.02)


def test_success_begins_anew() -> None:
    bench = Bench()
    for _ in range(5):
        bench.breaker.failure()
        bench.open_seconds()
    bench.breaker.success()
    bench.breaker.failure()
    assert bench.open_seconds() == pytest.approx(0.5, abs=0.02)


def test_late_failures_while_open_change_nothing() -> None:
    bench = Bench()
    bench.breaker.failure()
    bench.now += 0.3
    for _ in range(10):
        bench.breaker.failure()
    assert bench.open_seconds() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 0.4), (1.0, 0.6)])
def test_times_vary_by_a_fifth(random: float, seconds: float) -> None:
    bench = Bench(random)
    bench.breaker.failure()
    assert bench.open_seconds() == pytest.approx(seconds, abs=0.02)
