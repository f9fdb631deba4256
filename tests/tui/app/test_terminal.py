"""The cockpit in a real terminal: a question is asked and answered, and the terminal is left as it was found."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ALTERNATE, CURSOR, MOUSE = (b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h"), (b"\x1b[?1000h", b"\x1b[?1000l")


class Terminal:
    """A pseudo-terminal of 80 by 24, and everything that was written to it."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.master, self.process = master, process
        self.written = b""

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while text.encode() not in self.written:
            assert time.monotonic() < deadline, f"no {text!r} in {self.written[-2000:]!r}"
            self.read(0.2)

    def read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.written += os.read(self.master, 65536)

    def end(self, seconds: float = 60.0) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read(0.1)
        self.read(0.2)
        return self.process.returncode

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())


@contextmanager
def terminal(tmp_path: Path, *words: str) -> Iterator[tuple[Terminal, int]]:
    """The command in it, and its other end, whose settings tell how it was left."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "tui", "chat", "--conversations", str(tmp_path / "c.db"), "--runs", str(tmp_path), *words]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    try:
        yield Terminal(master, process), slave
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def is_left_as_found(written: bytes) -> bool:
    return all(written.rfind(off) > written.rfind(on) for on, off in (ALTERNATE, CURSOR, MOUSE) if on in written)


@pytest.mark.usefixtures("world")
def test_a_question_is_asked_and_the_terminal_is_given_back(tmp_path: Path) -> None:
    with terminal(tmp_path) as (screen, slave):
        before = termios.tcgetattr(slave)
        screen.wait_for("Ask a question")
        screen.wait_for("symbolic-teacher")
        screen.type("What is the birthplace of the spouse of Pelber Sindal?\r")
        screen.wait_for("a passage supports it")
        assert b"Kornas Zevrin" in screen.written
        screen.type("\x11")
        assert screen.end() == 0
        assert ALTERNATE[0] in screen.written
        assert is_left_as_found(screen.written)
        assert termios.tcgetattr(slave) == before


@pytest.mark.usefixtures("world")
def test_killed_politely_it_gives_the_terminal_back_too(tmp_path: Path) -> None:
    with terminal(tmp_path) as (screen, slave):
        before = termios.tcgetattr(slave)
        screen.wait_for("Ask a question")
        screen.process.send_signal(signal.SIGTERM)
        assert screen.end() == 128 + signal.SIGTERM
        assert is_left_as_found(screen.written)
        assert termios.tcgetattr(slave) == before
