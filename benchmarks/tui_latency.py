"""How soon the cockpit is there, and how soon a key is on the screen: python benchmarks/tui_latency.py --json FILE

The command in a pseudo-terminal of 80 by 24, as a person has it. Letters that nothing else on the screen contains are typed one
by one, and each is waited for: while nothing happens, while a local model answers, and while one is loaded (torch is imported
then). The model is the micro-world's base, over its index.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from training.demo import BASE
from training.verb import versions
from tui.app.conversations import Conversations

LETTERS = "".join(map(chr, [*range(0x410, 0x450), *range(0x391, 0x3A2), *range(0x3B1, 0x3CA), *range(0x531, 0x557)]))
"""Cyrillic, Greek and Armenian."""
APART = 0.03
"""Seconds between two keys."""
WHILE = 10
"""Keys while one question is answered."""
PATIENCE = 120.0


class Screen:
    """The command in a terminal, and what it writes there."""

    def __init__(self, *words: str, home: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._began = time.perf_counter()
        self._process = subprocess.Popen([sys.executable, "-m", "tui", "chat", *words], stdin=slave, stdout=slave, stderr=slave,
                                         env={**os.environ, "TERM": "xterm-256color", "XDG_CACHE_HOME": str(home)}, start_new_session=True)  # fmt: skip
        os.close(slave)

    def wait_for(self, *texts: str) -> float:
        """Seconds since now until one of them is written."""
        began, written = time.perf_counter(), b""
        while not any(text.encode() in written for text in texts):
            assert time.perf_counter() - began < PATIENCE, f"no {texts} in {written[-500:]!r}"
            if select.select([self._master], [], [], 0.5)[0]:
                with contextlib.suppress(OSError):
                    written += os.read(self._master, 65536)
        return time.perf_counter() - began

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Reads on meanwhile, as a terminal does."""
        began = time.perf_counter()
        while not happened():
            assert time.perf_counter() - began < PATIENCE
            if select.select([self._master], [], [], 0.1)[0]:
                os.read(self._master, 65536)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def echoes(self, letters: str) -> list[float]:
        """Milliseconds until each is seen."""
        taken = []
        for letter in letters:
            self.type(letter)
            taken.append(1000 * self.wait_for(letter))
            time.sleep(APART)
        return taken

    @property
    def age(self) -> float:
        return time.perf_counter() - self._began

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@contextlib.contextmanager
def screen(place: Path, model: str) -> Iterator[tuple[Screen, float]]:
    """It, and the seconds from the start of the process until it is painted."""
    one = Screen("--model", model, "--conversations", str(place / "conversations.db"), "--runs", str(place), "--max-tokens", "60", home=place)
    try:
        one.wait_for("Ask a question")
        yield one, one.age
    finally:
        one.close()


def answered(place: Path) -> int:
    """Questions so far, as the conversations tell."""
    return sum(one.exchanges for one in Conversations(place / "conversations.db").page())


def p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20)[-1]


def measure(place: Path, rounds: int, keys: int, questions: int) -> dict[str, float]:
    painted, idle, loading, answering = list[float](), list[float](), list[float](), list[float]()
    local = f"local:{BASE}"
    with screen(place, "symbolic") as (one, _):
        one.wait_for("symbolic-teacher")  # The index is made by the first that needs it.
    for _ in range(rounds):
        with screen(place, local) as (one, first):
            painted.append(first)
            loading += one.echoes(LETTERS[:keys])
        with screen(place, local) as (one, _):
            one.wait_for("serving base@")
            time.sleep(1.0)
            idle += one.echoes(LETTERS[:keys])
            before = answered(place)
            for number in range(questions):
                start = keys + number * WHILE
                one.type("\r")
                answering += one.echoes(LETTERS[start : start + WHILE])
                one.wait_until(lambda wanted=before + number + 1: answered(place) == wanted)  # type: ignore[misc]
    return {"first_paint_s": statistics.median(painted), "key_p95_ms_idle": p95(idle), "key_p95_ms_answering": p95(answering),
            "key_p95_ms_loading": p95(loading), "keys": len(idle) + len(loading) + len(answering)}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default: 3)")
    parser.add_argument("--keys", type=int, default=40, help="typed in a round while nothing happens, and while a model loads (default: 40)")
    parser.add_argument("--questions", type=int, default=6, help=f"asked in a round, {WHILE} keys each (default: 6)")
    args = parser.parse_args()
    if args.keys < 2 or args.keys + WHILE * args.questions > len(LETTERS):
        parser.error(f"two keys at least, and {len(LETTERS)} of both kinds at most: no letter is typed twice")
    with tempfile.TemporaryDirectory(prefix="steper-tui-") as place:
        found = measure(Path(place), args.rounds, args.keys, args.questions)
    print(f"first paint {found['first_paint_s']:.2f} s; a key is seen after (p95) {found['key_p95_ms_idle']:.0f} ms idle, "
          f"{found['key_p95_ms_answering']:.0f} ms while a model answers, {found['key_p95_ms_loading']:.0f} ms while one loads")
    if args.json:
        command = f"python {' '.join(sys.argv)}"
        args.json.write_text(json.dumps({"command": command, **found, "versions": versions()}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
