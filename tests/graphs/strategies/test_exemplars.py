"""Worked examples: read with care, shown first and in the file's order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphs.asking import prompt_of
from graphs.strategies import STRATEGIES, ircot
from graphs.strategies.exemplars import read_exemplars
from graphs.strategies.reading import find_answer
from graphs.strategies.strategy import Chain
from steper_agent.errors import DataError

STEPS = [{"query": "author of Emma", "passages": [{"title": "Emma", "text": "By Austen."}], "rationale": "Austen wrote it."},
         {"query": "birth of Austen", "passages": [{"title": "Austen", "text": "Born 1775."}], "rationale": "In 1775."}]  # fmt: skip
FIRST = {"question": "When was the author of Emma born?", "steps": STEPS, "answer": "1775"}
SECOND = {"question": "Who?", "steps": [{"rationale": "Thus the answer is: no one."}], "answer": "no one"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "exemplars.jsonl"
    path.write_text("\n".join(map(json.dumps, (FIRST, SECOND))))
    return path


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "direct"])
def test_they_stand_before_the_question_in_their_order(file: Path, name: str) -> None:
    strategy = STRATEGIES[name]
    shown = read_exemplars(file, strategy)
    messages = prompt_of(strategy, strategy.reason(Chain("Asked?"), continues=True), shown)
    text = "\n".join(message.text for message in messages)
    assert text.index(strategy.SYSTEM) < text.index("Emma born?") < text.index("Who?") < text.index("Asked?")
    assert text.index("[1] Emma: By Austen.") < text.index(f"{strategy.CONCLUSION} 1775.")
    assert messages == prompt_of(strategy, strategy.reason(Chain("Asked?"), continues=True), read_exemplars(file, strategy))


@pytest.mark.parametrize("name", ["ircot", "self_ask"])
def test_every_chain_ends_in_the_strategy_s_own_words(file: Path, name: str) -> None:
    first, second = read_exemplars(file, STRATEGIES[name])
    assert first.lines == ["Austen wrote it.", f"In 1775. {STRATEGIES[name].CONCLUSION} 1775."]
    assert second.lines == [f"{STRATEGIES[name].CONCLUSION} no one."]
    assert find_answer(second.lines[-1]) == "no one"


def test_a_step_without_a_query_gets_the_line_before_it(tmp_path: Path) -> None:
    steps = [{"rationale": "One."}, {"rationale": "Two."}]
    (tmp_path / "e.jsonl").write_text(json.dumps({"question": "Q?", "steps": steps, "answer": "a"}))
    (chain,) = read_exemplars(tmp_path / "e.jsonl", ircot)
    assert [step.query for step in chain.steps] == ["Q?", "One."]


@pytest.mark.parametrize(("line", "what"), [
    ("nonsense", "not an exemplar"), ("{}", "not an exemplar"), ('{"question": "q", "steps": [], "answer": "a"}', "without steps"),
    ('{"question": "q", "steps": [{"rationale": " "}], "answer": "a"}', "without steps"),
    ('{"question": "q", "steps": [{"rationale": "r", "note": 1}], "answer": "a"}', "not an exemplar"),
])
def test_a_bad_line_is_named(file: Path, line: str, what: str) -> None:
    file.write_text(f"{json.dumps(FIRST)}\n\n{line}\n")
    with pytest.raises(DataError, match=what) as bad:
        read_exemplars(file, ircot)
    assert str(bad.value.where).endswith(":3")


def test_a_missing_and_an_empty_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "missing"):
        with pytest.raises(DataError, match=r"no exemplar|cannot read"):
            read_exemplars(tmp_path / name, ircot)
