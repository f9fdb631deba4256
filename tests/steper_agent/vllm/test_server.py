"""A server's life: who shares it, and what becomes of it when a restart fails. A stand-in plays vLLM: it answers /health, or dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from steper_agent.errors import ModelError
from steper_agent.vllm import served_base
from steper_agent.vllm.launch import PYTHON, Launch
from steper_agent.vllm.served_base import let_go, start_base
from steper_agent.vllm.server import Server
from tests.processes import has_ended
from tests.tiny import tiny_base
from tests.waiting import eventually

STAND_IN = f"""#!{sys.executable}
import http.server, os, socketserver, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
starts = os.path.join(folder, "starts")
with open(starts, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
plan = open(os.path.join(folder, "plan")).read().split()
does = plan[min(len(open(starts).readlines()), len(plan)) - 1]
if does == "dies":
    sys.exit(3)
if does == "sleeps":
    time.sleep(600)

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def address_string(self):
        return ""
    def log_message(self, *_):
        pass

socketserver.UnixStreamServer(sys.argv[sys.argv.index("--uds") + 1], Answers).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-in; `plan` says what each of its starts does, the last word also what all later ones do."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "python").write_text(STAND_IN)
    (folder / "python").chmod(0o755)
    monkeypatch.setenv(PYTHON, str(folder / "python"))
    return folder


def plan(folder: Path, *does: str) -> Server:
    (folder / "plan").write_text(" ".join(does))
    return Server(Launch(model=folder, name="base"))


def started(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "starts").read_text().split()]


def test_a_restart_that_fails_is_tried_again_while_people_wait(stand_in: Path) -> None:
    with plan(stand_in, "answers", "dies", "answers") as server:
        os.kill(started(stand_in)[0], signal.SIGKILL)
        assert eventually(lambda: not server.is_ready)
        server.wait_ready(30)
        assert not server.is_over
        assert eventually(lambda: server.restarts == 1)
    assert len(started(stand_in)) == 3


def test_told_to_stop_while_it_starts_again_it_leaves_nobody_behind(stand_in: Path) -> None:
    with plan(stand_in, "answers", "sleeps") as server:
        os.kill(started(stand_in)[0], signal.SIGKILL)
        assert eventually(lambda: len(started(stand_in)) == 2)
    assert eventually(lambda: all(has_ended(pid) for pid in started(stand_in)))
    assert not server.folder.exists()


def test_a_restart_that_is_too_slow_is_ended_and_tried_again(stand_in: Path) -> None:
    with plan(stand_in, "answers", "sleeps", "answers") as server:
        server.start_timeout = 1.0
        os.kill(started(stand_in)[0], signal.SIGKILL)
        assert eventually(lambda: not server.is_ready)
        server.wait_ready(30)
        assert has_ended(started(stand_in)[1])


def test_restarts_that_are_all_too_slow_come_to_an_end(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steper_agent.vllm.server.MOST_RESTARTS", 2)
    monkeypatch.setattr("steper_agent.vllm.server.WITHIN", 1.0)
    with plan(stand_in, "answers", "sleeps") as server:
        server.start_timeout = 0.6
        os.kill(started(stand_in)[0], signal.SIGKILL)
        assert eventually(lambda: server.is_over)
        with pytest.raises(ModelError, match="it died 3 times"):
            server.wait_ready(0)
    assert len(started(stand_in)) == 3


def test_a_server_that_never_starts_is_over_and_keeps_its_log(stand_in: Path) -> None:
    server = plan(stand_in, "dies")
    with pytest.raises(ModelError, match="it ended with code 3"):
        server.start()
    assert server.is_over
    assert server.log.is_file()


class Shared:
    """A server that only counts what becomes of it."""

    made: list[Shared]

    def __init__(self, launch: Launch) -> None:
        self.launch, self.client, self.adapters, self.is_over = launch, None, None, False
        self.made.append(self)

    def start(self) -> Shared:
        return self

    def stop(self) -> None:
        self.is_over = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Shared]]:
    Shared.made = []
    monkeypatch.setattr(served_base, "Server", Shared)
    monkeypatch.setattr(served_base, "_STARTED", {})
    yield Shared.made
    for server in Shared.made:
        served_base.atexit.unregister(server.stop)


def test_a_server_ends_with_the_last_of_its_users_and_is_started_anew(tmp_path: Path, made: list[Shared]) -> None:
    path = tiny_base(tmp_path)
    first, second = start_base(path), start_base(path)
    other = start_base(path, kv_gib=2)
    assert first.server is second.server is not other.server
    for users_left in (1, 0):
        assert first.server
        let_go(first.server)
        assert first.server.is_over is (users_left == 0)
    assert other.server
    assert not other.server.is_over
    assert start_base(path).server not in (None, first.server)
    assert len(made) == 3


def test_who_held_a_server_that_died_does_not_end_the_one_in_its_place(tmp_path: Path, made: list[Shared]) -> None:
    path = tiny_base(tmp_path)
    old = start_base(path)
    made[0].is_over = True
    new = start_base(path)
    assert old.server
    let_go(old.server)
    assert new.server
    assert not new.server.is_over


def test_many_at_once_are_counted_each(tmp_path: Path, made: list[Shared]) -> None:
    path = tiny_base(tmp_path)
    bases = [start_base(path) for _ in range(8)]
    threads = [threading.Thread(target=let_go, args=(base.server,)) for base in bases[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not made[0].is_over
    let_go(bases[0].server)  # type: ignore[arg-type]
    assert made[0].is_over
