"""The order in which threads get the one connection that writes."""

from __future__ import annotations

import threading

from tracker_server.store.turns import Turns


def until_waiting(turns: Turns, count: int) -> None:
    """Awaits that so many threads wait."""
    pause = threading.Event()
    while len(turns._waiting) < count:  # nothing else tells that a thread waits
        pause.wait(0.001)


def test_those_that_wait_get_it_in_the_order_in_which_they_asked() -> None:
    turns, order = Turns(), list[int]()

    def take(number: int) -> None:
        with turns:
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            until_waiting(turns, number + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(5))


def test_a_thread_that_gives_it_up_and_asks_again_at_once_comes_after_those_that_wait() -> None:
    turns, order = Turns(), list[str]()

    def take() -> None:
        with turns:
            order.append("other")

    thread = threading.Thread(target=take)
    with turns:
        thread.start()
        until_waiting(turns, 1)
    with turns:
        order.append("greedy")
    thread.join()
    assert order == ["other", "greedy"]


def test_an_error_inside_gives_it_up_and_never_two_are_inside() -> None:
    turns, inside, most = Turns(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for number in range(200):
            try:
                with turns:
                    inside += 1
                    most = max(most, inside)
                    inside -= 1
                    if number % 3 == 0:
                        raise ValueError
            except ValueError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
