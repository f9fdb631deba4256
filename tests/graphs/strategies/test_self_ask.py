"""Self-Ask: one turn closes a step and opens the next."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage

from graphs.strategies import self_ask
from graphs.strategies.strategy import Chain, Turn, search
from steper_agent.prompts import pieces
from tests.graphs.strategies.chains import chain, passage

QUESTION = "When was the author of Emma born?"
FIRST = ("Who wrote Emma?", [passage(1)], "Jane Austen.")
LAST = ("When was Jane Austen born?", [passage(2)], "In 1775. So the final answer is: 1775.")
GOLDEN = """\
[1] Title 1: Text of passage 1.
[2] Title 2: Text of passage 2.

Question: When was the author of Emma born?
---
Follow up: Who wrote Emma?
---
Intermediate answer: Jane Austen.
Follow up: When was Jane Austen born?
---
Intermediate answer: In 1775.
So the final answer is: 1775.
"""


def test_the_whole_conversation_is_the_golden_text() -> None:
    user, said = self_ask.conversation(chain(QUESTION, FIRST, LAST))
    assert "\n---\n".join([user.text, *(block.removesuffix("\n") for block in pieces(said))]) + "\n" == GOLDEN


def test_before_the_first_search_the_question_stands_alone() -> None:
    (user,) = self_ask.reason(Chain(QUESTION), continues=True)
    assert user.text == f"Question: {QUESTION}"
    (told,) = self_ask.reason(Chain(QUESTION), continues=False)
    assert told.text.endswith("Write only the first line: Follow up: QUESTION")


def test_an_open_step_ends_with_its_follow_up_question() -> None:
    known = chain(QUESTION, FIRST, (LAST[0], LAST[1], ""))
    last = self_ask.reason(known, continues=True)[-1]
    assert last.text.endswith("Follow up: When was Jane Austen born?\n")
    (told,) = self_ask.reason(known, continues=False)
    assert "Follow up: When was Jane Austen born?\n\nWrite two lines" in told.text


def test_a_turn_without_an_intermediate_answer_still_asks_its_question() -> None:
    known = chain(QUESTION, ("Q1?", [], ""), ("Q2?", [], "X."), ("Q3?", [], ""))
    assert pieces(self_ask.conversation(known)[-1]) == [
        "Follow up: Q1?\n", "Follow up: Q2?\n", "Intermediate answer: X.\nFollow up: Q3?\n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        ("Follow up: Who wrote Emma?", Turn("", (search("Who wrote Emma?"),))),
        (" Jane Austen.\nFollow-up: When?\nIntermediate answer: made up", Turn("Jane Austen.", (search("When?"),))),
        ("Intermediate answer: A.\nFollow up: B?\n", Turn("A.", (search("B?"),))),
        ("**Intermediate answer:** A.\n**Follow up:** B?", Turn("A.", (search("B?"),))),
        ("Intermediate answer: In 1775.\nSo the final answer is: 1775.", Turn("In 1775. So the final answer is: 1775.", (), "1775")),
        ("So the final answer is: 1775.\nFollow up: more?", Turn("So the final answer is: 1775.", (), "1775")),
        ("Intermediate answer: The answer is A.\nFollow up: B?", Turn("The answer is A.", (search("B?"),))),
        ("Intermediate answer: The answer is: A.\nFollow up: B?", Turn("The answer is: A.", (search("B?"),))),
        ("Intermediate answer: In 1775. So the final answer is: 1775.", Turn("In 1775. So the final answer is: 1775.", (), "1775")),
        ("Intermediate answer: A.\nIntermediate answer: B.\nFollow up: C?", Turn("A.", fault="neither a follow-up question nor a final answer")),
        ("Follow up:", Turn("Follow up:", fault="neither a follow-up question nor a final answer")),
        ("", Turn("", fault="the model wrote nothing")),
    ],
)
def test_reader(text: str, turn: Turn) -> None:
    assert self_ask.read(AIMessage(text)) == turn


def test_every_turn_it_prints_is_read_back() -> None:
    opening, first, last = pieces(self_ask.conversation(chain(QUESTION, FIRST, LAST))[-1])
    assert self_ask.read(AIMessage(opening)).calls == (search(FIRST[0]),)
    assert self_ask.read(AIMessage(first)) == Turn(FIRST[2], (search(LAST[0]),))
    assert self_ask.read(AIMessage(last)) == Turn(LAST[2], (), "1775")
