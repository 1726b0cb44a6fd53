"""A subscriber reads no more than it may hold."""

from tracker_server.broker.brake import Brake


class Connection:
    """Notes whether it is read."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def test_it_pauses_beyond_the_limit_and_resumes_at_half_of_it() -> None:
    connection, brake = Connection(), Brake(100)
    brake.begin(connection)
    for tag in range(1, 13):
        brake.delivered(tag, 10)
    assert (connection.calls, brake.held) == (["pause"], 120)
    brake.acknowledged(6)
    assert (connection.calls, brake.held) == (["pause"], 60)
    brake.acknowledged(7)
    assert (connection.calls, brake.held) == (["pause", "resume"], 50)
    brake.acknowledged(12)
    assert (connection.calls, brake.held) == (["pause", "resume"], 0)


def test_a_new_session_holds_nothing_and_reads() -> None:
    old, new, brake = Connection(), Connection(), Brake(100)
    brake.begin(old)
    brake.delivered(1, 101)
    brake.end()
    brake.begin(new)
    assert (old.calls, new.calls, brake.held, brake.paused) == (["pause"], [], 0, False)
    brake.delivered(1, 100)
    assert not new.calls
