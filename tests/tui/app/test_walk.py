"""The cockpit from end to end in a real terminal: ask, compare, swap a student in through its gate, ask again, quit; and what ends it
early or fails in it. The terminal is given back as it was found every time."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from steper_agent.students.registry import Registry
from tests.steper_agent.students.registries import name_of, reweighed
from tests.tiny import tiny_adapter
from training.microworld.questions import make_questions
from training.microworld.world import make_world
from tui.app.world import PASSAGES, SEED

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is missing: install it to walk through the app in a real terminal"),
    pytest.mark.usefixtures("world"),
]
ROOT = Path(__file__).resolve().parents[3]
BASE = ROOT / "training" / "microworld" / "base"
PROMPT = "at-the-prompt>"
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""


class Terminal:
    """A shell in a tmux server of its own, 100 by 30."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._server = folder, f"steper-test-{uuid.uuid4().hex[:12]}"
        shell = ["env", f"PS1={PROMPT}", "ENV=", "sh"]
        self._tmux("new-session", "-d", "-x", "100", "-y", "30", "-c", str(ROOT), shlex.join(shell))
        self.wait_for(PROMPT)

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    @property
    def is_plain(self) -> bool:
        """Neither the alternate screen nor a hidden cursor nor a mouse that is listened to."""
        return self._tmux("display-message", "-p", "#{alternate_on}#{cursor_flag}#{mouse_any_flag}").strip() == "010"

    def wait_for(self, *texts: str) -> str:
        """The screen, once all of these are on it."""
        deadline = time.monotonic() + PATIENCE
        while missing := [text for text in texts if text not in (screen := self.screen)]:
            assert time.monotonic() < deadline, f"no {missing} in\n{screen}"
            time.sleep(0.05)
        return screen

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def run_chat(self, *words: str, **variables: str) -> None:
        """Start the cockpit. Its process, and what the terminal was like before and after it, are written into files."""
        chat = [sys.executable, "-m", "tui", "chat", "--conversations", str(self.folder / "c.db"), "--runs", str(self.folder), *words]
        place, given = shlex.quote(str(self.folder)), shlex.join(f"{name}={value}" for name, value in variables.items())
        script = self.folder / "walk.sh"
        inner = shlex.quote(f"echo $$ > {place}/pid; exec {shlex.join(chat)}")
        script.write_text(f"stty -a > {place}/before\nenv {given} sh -c {inner}\ncode=$?\nstty -a > {place}/after\necho over with $code.\n")
        self.type(f". {script}\n")

    def ask(self, question: str) -> None:
        self.type(question)
        self.press("Enter")

    @property
    def process(self) -> int:
        return int((self.folder / "pid").read_text())

    def is_given_back(self, code: int) -> bool:
        """The app ended with this code, and left nothing behind."""
        said = self.wait_for("over with ")
        before, after = ((self.folder / name).read_text() for name in ("before", "after"))
        return f"over with {code}." in said and before == after and self.is_plain and "Traceback" not in said

    def end(self) -> None:
        socket_path = Path(self._tmux("display-message", "-p", "#{socket_path}").strip())
        self._tmux("kill-server")
        socket_path.unlink(missing_ok=True)

    def _tmux(self, *words: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "TMUX"}
        return subprocess.run(["tmux", "-L", self._server, "-f", "/dev/null", *words], env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.end()


@pytest.fixture
def silent() -> Iterator[str]:
    """A provider's address where every call is taken and none is answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def closed() -> str:
    """A provider's address where nobody is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def test_the_whole_walk(terminal: Terminal, tmp_path: Path) -> None:
    # It adds nothing to its base, so it passes a gate that wants no gain.
    student = reweighed(tiny_adapter(BASE, tmp_path / "made"), tmp_path / "student", 0.0)
    Registry(tmp_path / "registry").add(student)
    first, second, third, *asked = make_questions(make_world(PASSAGES, split="test", seed=SEED), 5, seed=3, mix={"1": 1.0})
    gate = tmp_path / "gate.jsonl"
    gate.write_text("".join(json.dumps({"id": one.id, "question": one.text, "answers": one.answers}) + "\n" for one in asked))
    terminal.run_chat("--model", f"local:{BASE}", "--registry", str(tmp_path / "registry"), "--gate", str(gate),
                      "--max-tokens", "12", "--steps", "2", "-k", "2", OMP_NUM_THREADS="1")  # fmt: skip

    terminal.wait_for("serving base@", "Ask a question")
    terminal.ask(first.text)
    terminal.wait_for(f"1 {first.text}", "→ The ")
    terminal.wait_for("2 The ", "·  base@", "·  ircot")

    terminal.press("F3")
    terminal.wait_for("Ask all of them")
    terminal.ask(second.text)
    terminal.wait_for("step 1", f"? {second.text}")

    terminal.press("F4")
    terminal.wait_for(name_of(student).removeprefix("student@")[:8], "the bare base")
    terminal.press("Enter")
    terminal.wait_for("Through the gate", "Without a gate")
    terminal.press("Enter")
    terminal.wait_for("of 2 questions")
    terminal.wait_for(f"serving {name_of(student)}", "✓ gate", "EM ", "serves here now")

    terminal.press("F2")
    terminal.wait_for("Ask a question")
    terminal.ask(third.text)
    terminal.wait_for(f"1 {third.text}", f"·  {name_of(student)}")

    terminal.press("F4")
    terminal.wait_for("the bare base")
    terminal.press("Down", "Enter")
    terminal.wait_for("serving base@", "✓ the bare base serves here now")
    terminal.press("Up", "Enter")
    terminal.wait_for("Through the gate")
    terminal.press("Enter")
    terminal.wait_for("of 2 questions")
    terminal.press("C-q")
    terminal.wait_for("A swap is under way")
    terminal.press("C-q")
    assert terminal.is_given_back(0)


def test_killed_politely_in_the_middle_of_an_answer_it_gives_the_terminal_back(terminal: Terminal, silent: str) -> None:
    pytest.importorskip("langchain_openai")
    terminal.run_chat("--model", "openai:nobody", OPENAI_BASE_URL=silent, OPENAI_API_KEY="none")
    terminal.wait_for("serving openai", "Ask a question")
    terminal.ask("What is the birthplace of the spouse of Pelber Sindal?")
    terminal.wait_for("1 What is the birthplace", "Pelber Sindal is a person")
    os.kill(terminal.process, signal.SIGTERM)
    assert terminal.is_given_back(128 + signal.SIGTERM)


def test_a_run_that_fails_is_told_and_the_app_lives_on(terminal: Terminal) -> None:
    pytest.importorskip("langchain_openai")
    terminal.run_chat("--model", "openai:nobody", OPENAI_BASE_URL=closed(), OPENAI_API_KEY="none")
    terminal.wait_for("serving openai", "Ask a question")
    terminal.ask("What is the birthplace of the spouse of Pelber Sindal?")
    terminal.wait_for("1 What is the birthplace", "✗")
    terminal.press("C-o")
    terminal.wait_for("Use it")
    terminal.type("symbolic")
    terminal.press("Enter")
    terminal.wait_for("serving symbolic-teacher")
    terminal.ask("What is the birthplace of the spouse of Pelber Sindal?")
    terminal.wait_for("Kornas Zevrin", "a passage supports it")
    terminal.press("C-q")
    assert terminal.is_given_back(0)
