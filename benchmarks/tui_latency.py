"""How soon the cockpit is there, and how soon a key is on the screen: python benchmarks/tui_latency.py --json FILE

The command in a pseudo-terminal of 80 by 24, as a person has it. Letters that nothing else on the screen contains are typed one
by one, and each is waited for: while nothing happens, while a local model answers, while one is loaded (torch is imported then), and
while a journal that is followed grows by 10,000 rows. The model is the micro-world's base, over its index.
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
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from steper_agent.records import Finished, Question
from training.microworld import BASE
from training.verb import versions
from tui.app.conversations import Conversations

LETTERS = "".join(map(chr, [*range(0x410, 0x450), *range(0x391, 0x3A2), *range(0x3B1, 0x3CA), *range(0x531, 0x557)]))
"""Cyrillic, Greek and Armenian."""
APART = 0.03
"""Seconds between two keys."""
ROWS, AT_ONCE = 10_000, 100
"""Of the journal that grows."""
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
def screen(place: Path, model: str, *more: str, first: str = "Ask a question") -> Iterator[tuple[Screen, float]]:
    """It, and the seconds from the start of the process until it is painted, `first` on it."""
    one = Screen("--model", model, "--conversations", str(place / "conversations.db"), "--runs", str(place), "--max-tokens", "60", *more, home=place)
    try:
        one.wait_for(first)
        yield one, one.age
    finally:
        one.close()


def answered(place: Path) -> int:
    """Questions so far, as the conversations tell."""
    return sum(one.exchanges for one in Conversations(place / "conversations.db").page())


def finished(number: int) -> str:
    """A journal's line."""
    question = Question(id=str(number), text=f"Who wrote book {number}?", answers=("Ann",))
    return Finished(run=str(number), question=question, strategy="ircot", answer="Ann", stop="answered", model="m", recipe="r",
                    seconds=1.0).model_dump_json() + "\n"  # fmt: skip


def while_rows_stream_in(place: Path, letters: str) -> list[float]:
    """Typed into the search over a journal that another thread writes."""
    run, rows = place / "growing", [finished(number) for number in range(ROWS)]
    run.mkdir(exist_ok=True)
    (run / "settings.json").write_text('{"teacher": "symbolic"}')
    (run / "journal.jsonl").write_text(finished(0))
    with screen(place, "symbolic", "--follow", str(run), first="book 0") as (one, _), (run / "journal.jsonl").open("a") as journal:
        for key in ("\r", "/"):  # Into the journal, and into its search.
            one.type(key)
            time.sleep(0.5)
        over = threading.Event()

        def write() -> None:
            while rows and not over.is_set():
                journal.write("".join(rows.pop() for _ in range(min(AT_ONCE, len(rows)))))
                journal.flush()
                time.sleep(len(letters) * APART * AT_ONCE / ROWS)

        writer = threading.Thread(target=write)
        writer.start()
        taken = one.echoes(letters)
        over.set()
        writer.join()
    return taken


def p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20)[-1]


def measure(place: Path, rounds: int, keys: int, questions: int) -> dict[str, float]:
    painted, idle, loading, answering, streaming = list[float](), list[float](), list[float](), list[float](), list[float]()
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
        streaming += while_rows_stream_in(place, LETTERS[:keys])
    return {"first_paint_s": statistics.median(painted), "key_p95_ms_idle": p95(idle), "key_p95_ms_answering": p95(answering),
            "key_p95_ms_loading": p95(loading), "key_p95_ms_streaming": p95(streaming),
            "keys": len(idle) + len(loading) + len(answering) + len(streaming)}  # fmt: skip


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
          f"{found['key_p95_ms_answering']:.0f} ms while a model answers, {found['key_p95_ms_loading']:.0f} ms while one loads, "
          f"{found['key_p95_ms_streaming']:.0f} ms while rows stream in")
    if args.json:
        command = f"python {' '.join(sys.argv)}"
        args.json.write_text(json.dumps({"command": command, **found, "versions": versions()}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
