"""A process that follows the registry serves what was promoted in another one, and is not harmed by what it cannot take."""

from __future__ import annotations

import logging
import queue
import threading

import pytest

from steper_agent.errors import AdapterError
from steper_agent.students.follow import Follower
from steper_agent.students.registry import Registry
from tests.steper_agent.students.conftest import Made
from tests.steper_agent.students.others import promote, start


class Seat:
    """Takes what it is given, and says no to some."""

    def __init__(self, *refused: str | None) -> None:
        self.asked: list[str | None] = []
        self.refused = {*refused}

    def __call__(self, name: str | None) -> None:
        self.asked.append(name)
        if name in self.refused:
            raise AdapterError("too large", where="the server", fix="a larger server")


def test_what_another_process_promotes_serves_here_within_seconds(made: Made, registry: Registry) -> None:
    seen: queue.Queue[str | None] = queue.Queue()
    with Follower(registry, made.fingerprint, seen.put, poll=0.05):
        start(promote, registry.folder, made.names[1:2]).join()
        assert seen.get(timeout=60) == made.names[1]
        registry.rollback()
        assert seen.get(timeout=60) is None
    registry.promote(made.names[2])
    with pytest.raises(queue.Empty):
        seen.get(timeout=0.2)


def test_it_is_called_when_another_student_is_live_and_only_then(made: Made, registry: Registry) -> None:
    a, b, *_ = made.names
    seat = Seat()
    follower = Follower(registry, made.fingerprint, seat)
    follower.look()
    registry.promote(a)
    for _ in range(3):
        follower.look()
    registry.promote(a)
    registry.refuse(a, made.fingerprint, by="another process", reason="busy")
    follower.look()
    registry.promote(b)
    registry.rollback()
    follower.look()
    assert (seat.asked, follower.serving) == ([a], a)
    registry.rollback()
    follower.look()
    assert (seat.asked, follower.serving) == ([a, None], None)


def test_who_serves_it_already_is_not_called(made: Made, registry: Registry) -> None:
    seat = Seat()
    registry.promote(made.names[0])
    Follower(registry, made.fingerprint, seat, serving=made.names[0]).look()
    Follower(registry, "another base", seat).look()
    assert seat.asked == []


def test_a_refusal_is_noted_and_not_repeated_until_somebody_decides_anew(made: Made, registry: Registry) -> None:
    a, b, *_ = made.names
    seat = Seat(b)
    follower = Follower(registry, made.fingerprint, seat)
    registry.promote(a)
    follower.look()
    registry.promote(b)
    for _ in range(3):
        follower.look()
    assert (seat.asked, follower.serving, registry.live(made.fingerprint)) == ([a, b], a, b)
    last = registry.history.read()[-1]
    assert (last.action, last.student, last.by.startswith("process ")) == ("refused", b, True)
    assert "too large" in last.reason
    seat.refused.clear()
    registry.promote(b)
    follower.look()
    assert (seat.asked, follower.serving) == ([a, b, b], b)


def test_a_damaged_or_vanished_history_changes_nothing_and_is_told_once(
    made: Made, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    seat, path = Seat(), registry.history.path
    registry.promote(made.names[0])
    follower = Follower(registry, made.fingerprint, seat)
    follower.look()
    whole = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        for content, says in ((whole + b"{}\n", "jsonl:6"), (None, "is gone")):
            path.write_bytes(content) if content else path.unlink()
            for _ in range(3):
                follower.look()
            (told,) = caplog.messages
            assert says in told
            assert told.endswith(f"still serving {made.names[0]}")
            caplog.clear()
    path.write_bytes(whole + b'{"time": "20')
    follower.look()
    assert seat.asked == [made.names[0]]
    registry.promote(made.names[1])
    follower.look()
    assert seat.asked == made.names[:2]


def test_it_stops_from_within(made: Made, registry: Registry) -> None:
    done = threading.Event()

    def seat(_: str | None) -> None:
        follower.stop()
        done.set()

    registry.promote(made.names[0])
    follower = Follower(registry, made.fingerprint, seat, poll=0.01)
    follower.start()
    assert done.wait(60)
    follower.stop(60)
