"""The baselines: one search, or none; and Self-Ask through the whole graph beside them."""

from __future__ import annotations

from pathlib import Path

from langchain_core.messages import AIMessage

from graphs.run import Context, build_graph
from graphs.strategies import direct, single_step
from graphs.strategies.strategy import Chain, Turn, search
from steper_agent.journal import Journal, read
from steper_agent.prompts import pieces
from steper_agent.records import NodeRecord
from tests.fakes import Script, said, shelf
from tests.graphs.strategies.chains import chain, passage

SHELF = shelf("Emma", "Jane Austen")
QUESTION = "When was the author of Emma born?"


def test_the_prompts_are_the_golden_texts() -> None:
    (user,) = single_step.reason(chain("Who?", ("Who?", [passage(1)], "")), continues=True)
    assert user.text == "[1] Title 1: Text of passage 1.\n\nQuestion: Who?"
    user, begun = direct.answer(Chain("Who?"), continues=True)
    assert (user.text, begun.text) == ("Question: Who?", "So the answer is:")
    (alone,) = direct.answer(Chain("Who?"), continues=False)
    assert alone.content == "Question: Who?"
    assert pieces(direct.conversation(Chain("Who?", answer="Ann"))[-1]) == ["So the answer is:", " Ann.\n"]


def test_single_step_reads_all_lines_as_one_rationale() -> None:
    text = "Austen wrote it.\nShe was born in 1775.\nSo the answer is: 1775."
    line = "Austen wrote it. She was born in 1775. So the answer is: 1775."
    assert single_step.read(AIMessage(text)) == Turn(line, (search(line),), "1775")


def test_single_step_searches_once_whatever_the_budget() -> None:
    out = build_graph().invoke({"question": QUESTION}, context=Context(Script(lines=("Hm.", " 1775.")), SHELF, strategy="single_step", steps=5))
    assert ([step["query"] for step in out["steps"]], out["answer"], out["stop"]) == ([QUESTION], "1775", "budget")


def test_direct_searches_nothing_and_spends_no_budget(tmp_path: Path) -> None:
    model = Script(lines=(" 1775.",))
    with Journal(tmp_path / "j.jsonl") as journal:
        out = build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, strategy="direct", journal=journal))
    assert (out["answer"], out["stop"], out["steps"], out["passages"], out["supported"]) == ("1775", "answered", [], [], False)
    assert [record.node for record in read(tmp_path / "j.jsonl") if isinstance(record, NodeRecord)] == ["answer"]


def test_self_ask_asks_reads_and_concludes() -> None:
    model = Script(lines=("Follow up: Who wrote Emma?", "Intermediate answer: Jane Austen.\nFollow up: When was Jane Austen born?",
                          "Intermediate answer: In 1775.\nSo the final answer is: 1775."))  # fmt: skip
    out = build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, strategy="self_ask"))
    assert [(step["query"], step["rationale"]) for step in out["steps"]] == [
        ("Who wrote Emma?", "Jane Austen."), ("When was Jane Austen born?", "In 1775. So the final answer is: 1775.")]  # fmt: skip
    assert (out["answer"], out["stop"]) == ("1775", "answered")
    assert said(model.seen[-1]).endswith("Intermediate answer: Jane Austen.\nFollow up: When was Jane Austen born?\n")


def test_self_ask_without_a_follow_up_question_searches_the_question(tmp_path: Path) -> None:
    model = Script(lines=("I know this one.", "Intermediate answer: In 1775.\nSo the final answer is: 1775."))
    with Journal(tmp_path / "j.jsonl") as journal:
        out = build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, strategy="self_ask", journal=journal))
    assert (out["steps"][0]["query"], out["answer"]) == (QUESTION, "1775")
    first = next(record for record in read(tmp_path / "j.jsonl") if isinstance(record, NodeRecord))
    assert (first.node, first.step, first.outcome) == ("reason", 0, "parse_error")


def test_self_ask_with_its_budget_spent_is_asked_for_the_final_answer() -> None:
    model = Script(lines=("Follow up: Who?", "Intermediate answer: Jane Austen.\nFollow up: When?", " 1775."))
    out = build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, strategy="self_ask", steps=1))
    assert (out["answer"], out["stop"]) == ("1775", "budget")
    assert said(model.seen[-1]) == "Follow up: Who?\nIntermediate answer: Jane Austen.\nSo the final answer is:"
