"""`steper serve`: what it refuses before it loads anything, that it follows the registry, and that it closes as it is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from steper_agent.journal import read, trajectories
from steper_agent.records import Question, Swapped
from steper_agent.students.registry import Registry
from steper_agent.students.weights import ADAPTER_WEIGHTS
from steper_agent.web.access import bind
from tests.tiny import tiny_adapter, tiny_base
from tests.waiting import eventually
from tui.cli import main

Capture = pytest.CaptureFixture[str]
SLOWED = """
import asyncio, sys
from training.microworld.teacher import SymbolicTeacher
told = SymbolicTeacher._agenerate
async def slowly(self, *given, **named):
    await asyncio.sleep(0.4)
    return await told(self, *given, **named)
SymbolicTeacher._agenerate = slowly
from tui.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The command itself, with a teacher that leaves time to stop it."""
STEPER = ("-m", "tui")


@contextmanager
def serving(*flags: str, program: Sequence[str] = ("-c", SLOWED), **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the base URL it printed."""
    command = [sys.executable, *program, "serve", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, **environment}) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://\S+/v1", said)
            assert found, said or process.stderr.read()  # type: ignore[union-attr]
            assert 'model "steper"' in said
            yield process, found[0]
        finally:
            process.kill()


def chat(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "steper", "messages": [{"role": "user", "content": question}], **more}


def test_told_to_stop_it_answers_what_was_asked_before_and_ends_well(index: str, asked: Question, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    flags = ("--index", index, "--model", "symbolic", "--port", "0", "--journal", str(journal))
    with serving(*flags, STEPER_TOKEN="s3cret") as (process, url):
        assert httpx.get(f"{url}/models").status_code == 401
        headers = {"Authorization": "Bearer s3cret"}
        with httpx.stream("POST", f"{url}/chat/completions", json=chat(asked.text, stream=True), headers=headers) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: {")
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            health = httpx.get(url.removesuffix("v1") + "healthz")
            assert (health.status_code, health.json()["status"], health.json()["inflight"]) == (503, "closing", 1)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert f'"content":"{asked.answers[0]}"' in "".join(rest)
        assert process.wait(10) == 0
        assert process.communicate() == ("", "")
    assert [one.answer for one in trajectories(journal)] == [asked.answers[0]]


def test_stopped_from_the_keyboard_it_ends_well_and_a_second_time_at_once(index: str, asked: Question) -> None:
    with serving("--index", index, "--model", "symbolic", "--port", "0", "--verbose") as (process, url):
        with httpx.stream("POST", f"{url}/chat/completions", json=chat(asked.text, stream=True)) as stream:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.15)
            assert '"code":"closing"' in stream.read().decode()
        assert process.wait(10) == 0
        assert '"POST /v1/chat/completions HTTP/1.1" 200' in process.communicate()[1]


def answered(url: str) -> tuple[str, str]:
    """Who answers a question now, and what."""
    told = httpx.post(f"{url}/chat/completions", json=chat("Who wrote Emma?"), timeout=60).json()
    return told["steper"]["model"], told["choices"][0]["message"]["content"]


def test_a_student_promoted_in_another_process_answers_and_a_damaged_one_never_does(index: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", window=4096)
    registry, journal = Registry(tmp_path / "registry"), tmp_path / "journal.jsonl"
    whole, damaged = (registry.add(tiny_adapter(base, tmp_path / str(seed), seed)).card.name for seed in (1, 2))
    weights = registry.path_of(damaged) / ADAPTER_WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])

    def students(*words: str) -> tuple[int, str]:
        command = [sys.executable, *STEPER, "students", *words, "--registry", str(registry.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    flags = ("--index", index, "--model", f"local:{base}", "--registry", str(registry.folder), "--journal", str(journal),
             "-k", "1", "--steps", "1", "--max-tokens", "8", "--port", "0")  # fmt: skip
    with serving(*flags, program=STEPER) as (process, url):
        alone = answered(url)
        assert alone[0].startswith("base@")
        assert students("promote", whole)[0] == 0
        assert eventually(lambda: answered(url)[0] == whole)
        assert answered(url)[1] != alone[1]
        happened = registry.history.read()
        code, told = students("promote", damaged)
        assert code == 2
        assert "content is" in told
        assert "fix:" in told
        assert registry.history.read() == happened
        assert answered(url)[0] == httpx.get(f"{url}/models").json()["data"][0]["steper"]["version"] == whole
        assert students("rollback")[0] == 0
        assert eventually(lambda: answered(url) == alone), "as if there had been no student"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    swaps = [(line.before, line.after, line.ok) for line in read(journal) if isinstance(line, Swapped)]
    assert swaps == [(alone[0], whole, True), (whole, alone[0], True)]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--host", "0.0.0.0"), "there is no token"),
        (("--token-file", "/nowhere/token"), "cannot read the token"),
        (("--index", "/nowhere"), "/nowhere"),
    ],
)
def test_what_a_person_must_mend_is_told(
    index: str, flags: tuple[str, ...], told: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEPER_TOKEN", raising=False)
    assert main(["serve", "--index", index, "--model", "symbolic", "--port", "0", *flags]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "fix:" in said


def test_a_registry_and_a_student_named_by_hand_are_not_both_given(index: str, tmp_path: Path, capsys: Capture) -> None:
    base = tiny_base(tmp_path / "base")
    student = tiny_adapter(base, tmp_path / "student")
    assert main(["serve", "--index", index, "--model", f"local:{base}+{student}", "--registry", str(tmp_path / "registry"), "--port", "0"]) == 2
    assert "give the base alone" in capsys.readouterr().err


def test_a_port_in_use_is_told_before_anything_is_loaded(capsys: Capture) -> None:
    with bind("127.0.0.1", 0, has_token=False) as sock:
        sock.listen()
        taken = str(sock.getsockname()[1])
        assert main(["serve", "--index", "/nowhere", "--model", "symbolic", "--port", taken]) == 2
    assert "give another --port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--port", "-1"), ("--port", "65536"), ("--port", "http"), ("--grace", "-1"), ("--grace", "nan"), ("--grace", "inf"),
     ("--grace", "soon"), ("--max-inflight", "0"), ("--token", "s3cret"), ("--strategy", "guess")],
)  # fmt: skip
def test_bad_usage_is_exit_code_two(flag: str, value: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", "--index", "i", "--model", "symbolic", f"{flag}={value}"])
    assert left.value.code == 2
    assert flag in capsys.readouterr().err.splitlines()[-1]


def test_help_says_how_to_reach_it_and_how_to_close_it_off(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("OpenAI", "--token-file", "STEPER_TOKEN", "8321", "--max-inflight", "--grace"):
        assert words in shown
