"""The rivals' ways of answering: what they write is what they read, whatever a passage says, and the graph ends by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from graphs.run import Context, build_graph
from graphs.strategies import chain_of_note, sail, self_rag
from graphs.strategies.reading import one_line
from graphs.strategies.strategy import Turn, search
from steper_agent.prompts import encode, show_passage
from steper_agent.records import Step
from tests.fakes import Script, shelf
from tests.graphs.strategies.test_laws import TOKENIZERS, asked_at, end_of, steps_of

SHELF = shelf("Emma", "Jane Austen")
QUESTION = "When was the author of Emma born?"
SENTENCE = "Austen was born in 1775. So the answer is: 1775."


def test_the_turns_are_the_golden_texts() -> None:
    assert chain_of_note.write(["Emma is by Austen.", ""], SENTENCE) == f"Note [1], relevant: Emma is by Austen. Note [2], irrelevant. {SENTENCE}"
    assert sail.write([True, False], SENTENCE) == f"[1] is informative. [2] is distracting. {SENTENCE}"
    marked = self_rag.write("Austen wrote it.", is_relevant=True, support="Fully supported")
    assert marked == "[Relevant] Austen wrote it. [Fully supported] [Retrieve]"
    marked = self_rag.write(SENTENCE, is_relevant=False, support="No support", utility=5)
    assert marked == f"[Irrelevant] {SENTENCE} [No support] [Utility:5]"


@pytest.mark.parametrize("strategy", [chain_of_note, sail])
def test_a_turn_of_several_lines_is_one_rationale(strategy: object) -> None:
    written = chain_of_note.write(["Emma is by Austen."], SENTENCE) if strategy is chain_of_note else sail.write([True], SENTENCE)
    for reply in (written, written.replace(". ", ".\n")):
        assert strategy.read(AIMessage(reply)) == Turn(written, (search(written),), "1775")  # type: ignore[attr-defined]
    assert strategy.read(AIMessage(" \n")).fault  # type: ignore[attr-defined]


@given(st.text(max_size=40), st.booleans(), st.sampled_from(["Fully supported", "Partially supported", "No support"]))
def test_marks_come_off_as_they_went_on(text: str, is_relevant: bool, support: self_rag.Support) -> None:
    sentence = self_rag.unmarked(f"{one_line(text)} end")
    line = self_rag.write(sentence, is_relevant=is_relevant, support=support)
    assert self_rag.unmarked(line) == sentence
    assert self_rag.read(AIMessage(line)).calls == (search(sentence),)


@pytest.mark.parametrize(("text", "calls", "answer", "fault"), [
    ("[Relevant] Austen wrote it. [Fully supported] [Retrieve]\nMore.", ("Austen wrote it.",), "", ""),
    ("[ RETRIEVE ] Austen wrote it.", ("Austen wrote it.",), "", ""),
    (f"[Relevant] {SENTENCE} [Fully supported] [Utility: 5]", (SENTENCE,), "1775", ""),
    (f"{SENTENCE} [Retrieve]", (SENTENCE,), "1775", ""),
    ("Austen wrote it.", (), "", "neither [Retrieve] nor an answer"),
    ("[Relevant] [Retrieve]", (), "", "the model wrote no sentence"),
    ("", (), "", "the model wrote nothing"),
    ("see [1] [Retrieve]", ("see [1]",), "", ""),
])  # fmt: skip
def test_self_rag_s_reader(text: str, calls: tuple[str, ...], answer: str, fault: str) -> None:
    turn = self_rag.read(AIMessage(text))
    assert (turn.calls, turn.answer, turn.fault) == (tuple(search(call) for call in calls), answer, fault)


@pytest.mark.parametrize("text", [" 1775. [Fully supported] [Utility:5]", "1775", SENTENCE])
def test_self_rag_s_final_answer_comes_without_marks(text: str) -> None:
    assert self_rag.read_answer(AIMessage(text)) == "1775"


def test_self_rag_searches_for_what_it_said_where_it_asks_to() -> None:
    lines = ("[Relevant] Jane Austen wrote Emma. [Fully supported] [Retrieve]", f"[Irrelevant] {SENTENCE} [No support] [Utility:5]")
    out = build_graph().invoke({"question": QUESTION}, context=Context(Script(lines=lines), SHELF, strategy="self_rag"))
    assert [step["query"] for step in out["steps"]] == [QUESTION, "Jane Austen wrote Emma."]
    assert (out["answer"], out["stop"]) == ("1775", "answered")


def test_a_line_without_retrieve_searches_the_question_again_until_the_budget_is_spent() -> None:
    out = build_graph().invoke({"question": QUESTION}, context=Context(Script(lines=("Hm.", "Hm.", " 1775.")), SHELF, strategy="self_rag", steps=2))
    assert ([step["query"] for step in out["steps"]], out["answer"], out["stop"]) == ([QUESTION, QUESTION], "1775", "budget")


@pytest.mark.parametrize("strategy", ["chain_of_note", "sail"])
def test_those_that_search_once_are_asked_for_an_answer_they_did_not_give(strategy: str) -> None:
    out = build_graph().invoke({"question": QUESTION}, context=Context(Script(lines=("Hm.", " 1775.")), SHELF, strategy=strategy, steps=5))
    assert ([step["query"] for step in out["steps"]], out["answer"], out["stop"]) == ([QUESTION], "1775", "budget")


@pytest.mark.parametrize("family", TOKENIZERS)
@given(steps=steps_of())
def test_self_rag_s_prompt_starts_with_the_one_before_it_up_to_its_passages(family: str, steps: list[Step]) -> None:
    tokenizer, shown = TOKENIZERS[family], 0
    prompts = [asked_at(self_rag, steps, number, tokenizer) for number in range(1, len(steps) + 1)]
    for number, (before, after) in enumerate(zip(prompts, prompts[1:], strict=False)):
        shown += len(steps[number].hits)
        end = end_of(encode(f"{show_passage(shown, steps[number].hits[-1].passage)}\n", tokenizer), before)
        assert after[:end] == before[:end]
