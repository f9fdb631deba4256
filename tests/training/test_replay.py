"""Replayed chains: read from any source's JSONL, named where broken, and said line by line in the real graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphs.run import Context, aanswer_all, answer_all
from steper_agent.errors import DataError, ModelError
from steper_agent.records import Question
from tests.fakes import shelf
from training.models import open_model
from training.replay import read_chains, teacher_of

STEPS = ("Jane Austen wrote Emma.", "Jane Austen was born in Steventon.", "Steventon lies in Hampshire.")
ROW: dict[str, Any] = {"id": "q1", "question": "In which county was the author of Emma born?", "answer": "Hampshire",
                       "reasoning_steps": list(STEPS)}
LINES = (*STEPS[:2], f"{STEPS[2]} So the answer is: Hampshire.")
SHELF = shelf("Emma", "Jane Austen", "Steventon", "Hampshire")


def written(folder: Path, *rows: object) -> Path:
    path = folder / "chains.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in ROW.items() if key not in keys}


@pytest.mark.parametrize("steps", [STEPS, [{"text": step, "titles": ["x"]} for step in STEPS],
                                   [STEPS[0], {"text": f"  {STEPS[1]}\n"}, "", STEPS[2]]])
def test_steps_are_texts_or_objects_with_a_text(tmp_path: Path, steps: Any) -> None:
    (chain,) = read_chains(written(tmp_path, {**ROW, "reasoning_steps": list(steps), "dataset": "x", "contexts": []}))
    assert chain.lines == LINES
    assert chain.question == Question(id="q1", text=ROW["question"], answers=("Hampshire",), meta={"dataset": "x"})


def test_a_chain_that_concludes_is_left_as_it_is(tmp_path: Path) -> None:
    last = "Hence the answer is: Hampshire."
    (chain,) = read_chains(written(tmp_path, {**ROW, "reasoning_steps": [STEPS[0], last]}))
    assert chain.lines == (STEPS[0], last)


def test_blank_lines_are_passed_over_and_a_chain_without_id_gets_its_line(tmp_path: Path) -> None:
    chains = read_chains(written(tmp_path, ROW, "", {**without("id"), "question": "And then?"}))
    assert [chain.question.id for chain in chains] == ["q1", "3"]


@pytest.mark.parametrize("strange", ["one\u2028two", "one\x85two", "one\x0ctwo"])
def test_only_line_ends_end_a_line_of_the_file(tmp_path: Path, strange: str) -> None:
    row = json.dumps({**ROW, "question": strange}, ensure_ascii=False)
    (chain,) = read_chains(written(tmp_path, row))
    assert chain.question.text == strange


@pytest.mark.parametrize("broken", [
    '{"id": "q2", "question', "[]", "17", "null", without("answer"), without("question"), without("reasoning_steps"),
    {**ROW, "answer": " "}, {**ROW, "answer": None}, {**ROW, "question": None}, {**ROW, "reasoning_steps": []},
    {**ROW, "reasoning_steps": [""]}, {**ROW, "reasoning_steps": [{"words": "x"}]},
    {**ROW, "reasoning_steps": "one text"},
])
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, broken: object) -> None:
    path = written(tmp_path, {**ROW, "id": "q0"}, broken)
    with pytest.raises(DataError) as caught:
        read_chains(path)
    assert caught.value.where == f"{path}:2"


def test_an_id_given_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ROW, {**ROW, "question": "Another?"})
    with pytest.raises(DataError, match="twice"):
        read_chains(path)


async def test_of_two_chains_for_one_question_neither_is_said(tmp_path: Path) -> None:
    chains = read_chains(written(tmp_path, ROW, {**ROW, "id": "other", "question": f" {ROW['question']}\n"}))
    with pytest.raises(ModelError, match="several chains"):
        await aanswer_all([chains[0].question], Context(teacher_of(chains), SHELF, k=2))
    (made,) = await aanswer_all([chains[0].question], Context(teacher_of(chains[:1]), SHELF, k=2))
    assert made.stop == "answered"


def test_a_file_that_is_missing_empty_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_chains(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no chain"):
        read_chains(written(tmp_path, "", " "))
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="UTF-8"):
        read_chains(tmp_path / "bytes.jsonl")


async def test_the_graph_reasons_with_the_lines_of_the_chain(tmp_path: Path) -> None:
    chains = read_chains(written(tmp_path, ROW, {**ROW, "id": "q2", "question": "What  else?\n", "answer": "Bath"}))
    made = await aanswer_all([chain.question for chain in chains], Context(teacher_of(chains), SHELF, k=2))
    for one, chain in zip(made, chains, strict=True):
        assert (one.answer, one.stop, one.model) == (chain.question.answers[0], "answered", "replay")
        assert tuple(step.rationale for step in one.steps) == chain.lines
        assert [step.query for step in one.steps] == [chain.question.text, *chain.lines[:-1]]
        assert one.question == chain.question


def test_a_question_may_speak_of_a_question(tmp_path: Path) -> None:
    chains = read_chains(written(tmp_path, {**ROW, "question": "Who wrote “Question: Who is Emma?”"}))
    (made,) = answer_all([chains[0].question], Context(teacher_of(chains), SHELF))
    assert made.answer == "Hampshire"


@pytest.mark.parametrize("steps", [1, 2])
def test_a_spent_budget_yields_the_answer_of_the_chain(tmp_path: Path, steps: int) -> None:
    chains = read_chains(written(tmp_path, ROW))
    (made,) = answer_all([chains[0].question], Context(teacher_of(chains), SHELF, steps=steps))
    assert (made.answer, made.stop) == ("Hampshire", "budget")
    assert tuple(step.rationale for step in made.steps) == LINES[:steps]


def test_a_question_without_a_chain_ends_the_call_and_is_named(tmp_path: Path) -> None:
    teacher = open_model(f"replay:{written(tmp_path, ROW)}")
    with pytest.raises(ModelError, match="no chain") as caught:
        answer_all([Question(id="x", text="Who is Mr Knightley?")], Context(teacher, SHELF))
    assert caught.value.where == "Who is Mr Knightley?"
