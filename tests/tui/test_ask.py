"""`steper ask`: what it prints while a question is answered, what it keeps, and what it never lets onto the screen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from graphs.run import Context
from steper_agent.journal import read, trajectories
from steper_agent.records import Finished, NodeRecord, Question, Trajectory
from steper_agent.retrieval import build_index
from tests.fakes import Humming, Script
from tests.steper_agent.retrieval.shelves import write_lines
from tests.tiny import tiny_base
from tui.ask import show
from tui.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def ask(question: str, index: str, *flags: str, model: str = "symbolic") -> int:
    return main(["ask", question, "--index", index, "--model", model, *flags])


def test_steps_are_shown_with_passages_scores_and_reasoning(index: str, asked: Question, capsys: Capture) -> None:
    assert ask(asked.text, index) == 0
    shown = capsys.readouterr().out
    assert f"step 1  query: {asked.text}" in shown
    assert "step 2  query: " in shown
    reasoning = re.findall(r"^  → (.+)$", shown, re.MULTILINE)
    assert reasoning[0] in shown.partition("step 2  query: ")[2]
    assert "So the answer is:" in reasoning[-1]
    scores = [float(score) for score in re.findall(r"^ +(\d+\.\d{3})  \S", shown.partition("step 2")[0], re.MULTILINE)]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert shown.endswith(f"answer: {asked.answers[0]}\n")


def test_json_is_the_trajectory_and_nothing_else(index: str, asked: Question, capsys: Capture) -> None:
    assert ask(asked.text, index, "--json", "-k", "3") == 0
    made = Trajectory.model_validate_json(capsys.readouterr().out)
    assert (made.answer, made.stop, made.question.text) == (asked.answers[0], "answered", asked.text)
    assert all(len(step.hits) <= 3 for step in made.steps)
    assert set(asked.supporting_ids) <= {hit.passage.id for step in made.steps for hit in step.hits}


def test_a_journal_gets_every_node_and_the_next_run_is_appended(index: str, asked: Question, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert ask(asked.text, index, "--journal", str(path)) == 0
    first = list(read(path))
    assert [one.node for one in first[:3] if isinstance(one, NodeRecord)] == ["form_query", "retrieve", "reason"]
    assert isinstance(first[-1], Finished)
    assert ask(asked.text, index, "--journal", str(path)) == 0
    assert list(read(path))[: len(first)] == first
    assert [one.answer for one in trajectories(path)] == [asked.answers[0]] * 2


def test_a_local_model_streams_until_its_budget_is_spent(
    index: str, asked: Question, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[str] = []
    out = Console.out

    def noted(self: Console, *words: Any, **how: Any) -> None:
        pieces.extend(words)
        out(self, *words, **how)

    monkeypatch.setattr(Console, "out", noted)
    base = tiny_base(tmp_path / "base", window=4096)
    assert ask(asked.text, index, "--max-tokens", "8", "--steps", "2", model=f"local:{base}") == 0
    shown = capsys.readouterr().out
    assert "step 2" in shown
    assert "step 3" not in shown
    assert "(step budget spent" in shown.splitlines()[-1]
    first_step = pieces[pieces.index("  → ") + 1 : pieces.index("  → ", pieces.index("  → ") + 1)]
    assert sum(1 for piece in first_step if piece) > 1


def test_a_passage_reaches_the_screen_as_harmless_text(tmp_path: Path, capsys: Capture) -> None:
    nasty = {"id": "n", "title": "\x1b[31mRed[/bold] :fire:", "text": "picasso [bold]x[/bold] \x1b]0;owned\x07\x9b2Jend \\"}
    build_index([write_lines(tmp_path / "corpus", [nasty])], tmp_path / "index")
    assert ask("[red]picasso[/red] :dog: \x1b[2J?", str(tmp_path / "index")) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert "Red[/bold] :fire:: picasso [bold]x[/bold] end" in shown
    assert "query: [red]picasso[/red] :dog: ?" in shown


def test_a_model_cannot_write_escapes_to_the_screen_either(tmp_path: Path, capsys: Capture) -> None:
    line = {"id": "1", "question": "Who?", "answer": "Ann[/b] :tada:", "reasoning_steps": ["\x1b[31mred [bold]Ann[/bold]\x07"]}
    chains = write_lines(tmp_path / "chains", [line])
    build_index([write_lines(tmp_path / "c", [{"id": "a", "text": "Who is Ann"}])], tmp_path / "index")
    assert ask("Who?", str(tmp_path / "index"), model=f"replay:{chains}") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "→ red [bold]Ann[/bold] So the answer is: Ann[/b] :tada:." in shown
    assert shown.endswith("answer: Ann[/b] :tada:  (no passage read supports it)\n")


def test_every_line_of_a_step_is_a_line_on_the_screen(index: str, asked: Question, capsys: Capture) -> None:
    assert ask(asked.text, index, "--strategy", "self_ask") == 0
    shown = capsys.readouterr().out
    assert "(nothing)" not in shown
    assert re.search(r"^Follow up: .+$", shown.partition("step 1")[0], re.MULTILINE)
    assert re.search(r"^  → Intermediate answer: .+\n    Follow up: .+$", shown, re.MULTILINE)


async def test_what_others_write_into_the_stream_is_not_shown(capsys: Capture) -> None:
    context = Context(Script(lines=("So the answer is: Ann.",)), Humming(texts={"Ann": "Who is Ann"}))
    assert await show("Who?", context, Console()) == "Ann"
    assert "progress" not in capsys.readouterr().out


def test_what_a_provider_raises_is_told_in_a_line(index: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    class Unlucky(Script):
        def _generate(self, *_: Any, **__: Any) -> Any:
            raise LookupError("no key \x1b[31mat all")

    monkeypatch.setattr("training.models.open_model", lambda *_, **__: Unlucky(lines=()))
    assert ask("Who?", index, model="openai:nobody") == 2
    told = capsys.readouterr().err
    assert "the run failed: LookupError: no key at all" in told
    assert "fix:" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("flag", ["-k", "--steps", "--max-tokens"])
@pytest.mark.parametrize("value", ["0", "-1", "few"])
def test_a_count_below_one_is_bad_usage(index: str, flag: str, value: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        ask("Who?", index, flag, value)
    assert left.value.code == 2
    assert flag in capsys.readouterr().err.splitlines()[-1]
