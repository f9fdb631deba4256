"""The command `steper`: it teaches its use, and its exit code tells how it ended."""

from __future__ import annotations

import argparse

import pytest

from graphs import strategies
from steper_agent.errors import DataError
from tui import doctor
from tui.arguments import STRATEGIES
from tui.cli import main

Capture = pytest.CaptureFixture[str]

TAUGHT: dict[str, tuple[str, ...]] = {
    "": ("in steps", "ask", "index", "serve", "vllm", "students", "doctor", "training.collect", "training.distill", "training.evaluate"),
    "index": ("passages", "build", "stats", "search"),
    "index build": ("Index the passages", "HotpotQA", ".txt and .md", "--out", "hybrid"),
    "index stats": ("what an index holds", "DIR"),
    "index search": ("Search an index", "QUERY", "default 4"),
    "ask": ("every step", "steper index build", "local:PATH", "symbolic", "step budget", "--journal"),
    "vllm": ("--students", "STEPER_VLLM_TOKEN", "127.0.0.1", "Ctrl-C"),
    "students": ("list", "promote", "rollback", "STEPER_REGISTRY"),
    "students promote": ("a file of questions with answers", "question and answer", "--min-delta"),
    "serve": ("OpenAI-compatible", "$STEPER_TOKEN", "--max-inflight", "127.0.0.1"),
    "doctor": ("what is installed", "missing"),
}


@pytest.mark.parametrize("command", TAUGHT)
def test_help_says_what_a_command_does_and_takes(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert [words for words in TAUGHT[command] if words not in shown] == []


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], "COMMAND"),
        (["index"], "VERB"),
        (["bake"], "doctor"),
        (["ask", "Who?"], "--index"),
        (["index", "build"], "--out"),
    ],
)
def test_bad_usage_is_exit_code_two_and_names_what_is_wanted(argv: list[str], wanted: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "\nStopped.\n"),
        (DataError("bad", where="here", fix="mend it"), 2, "DataError: bad\n  where: here\n  fix:   mend it\n"),
        (FileExistsError(17, "File exists", "runs"), 2, "FileExistsError: File exists\n  where: runs\n  fix:   check"),
        (DataError("it has \x1b[31mred\x9b2J", where="a\u202eb", fix="c\x07\rd"), 2, "DataError: it has red\n  where: ab\n  fix:   cd\n"),
        (FileExistsError(17, "File exists", "\x1b]0;x\x07runs"), 2, "FileExistsError: File exists\n  where: runs\n  fix:   check"),
        (OSError(28, "No space left"), 2, "OSError: No space left\n  where: this machine\n  fix:   check"),
    ],
)
def test_how_a_command_ended_is_told(
    end: BaseException, code: int, told: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(_: argparse.Namespace) -> int:
        raise end

    monkeypatch.setattr(doctor, "doctor", ends)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize("mistake", [OSError("a library's own"), ZeroDivisionError("ours")])
def test_a_mistake_of_the_program_is_not_hidden(mistake: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(_: argparse.Namespace) -> int:
        raise mistake

    monkeypatch.setattr(doctor, "doctor", ends)
    with pytest.raises(type(mistake), match=str(mistake)):
        main(["doctor"])


def test_the_strategies_that_are_named_are_those_there_are() -> None:
    assert set(STRATEGIES) == set(strategies.STRATEGIES)
