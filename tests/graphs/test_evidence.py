"""What an answer rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphs.evidence import evidence_of
from steper_agent.records import Passage
from tests.graphs.strategies.chains import chain

EMMA = Passage(id="e", title="Emma", text="Emma is a novel by Jane Austen.")
AUSTEN = Passage(id="a", title="Jane Austen", text="Jane Austen was born in 1775 in Steventon.")
ROME = Passage(id="r", title="Rome", text="Rome is a town in Italy.")
KNOWN = chain("When was the author of Emma born?", ("q", [ROME, EMMA], "Emma is by Jane Austen."),
              ("q2", [AUSTEN], "Jane Austen was born in 1775. So the answer is: 1775."))  # fmt: skip


def test_every_step_names_the_passages_that_state_it() -> None:
    evidence, supported = evidence_of(replace(KNOWN, answer="1775"))
    assert supported
    assert [(step["step"], step["query"], step["rationale"]) for step in evidence] == [
        (n, step.query, step.rationale) for n, step in enumerate(KNOWN.steps, start=1)]  # fmt: skip
    assert [step["passages"] for step in evidence] == [
        [{"id": "e", "title": "Emma", "score": 1.0}], [{"id": "a", "title": "Jane Austen", "score": 1.0}]]  # fmt: skip


@pytest.mark.parametrize(("answer", "supported"), [
    ("1775", True), ("Jane Austen", True), ("steventon", True), ("1776", False), ("Paris", False), ("yes", True), ("", False),
    ("Emma 1775", False),
])
def test_an_answer_that_no_passage_states_is_not_supported(answer: str, supported: bool) -> None:
    assert evidence_of(replace(KNOWN, answer=answer))[1] == supported


def test_a_yes_rests_on_its_steps() -> None:
    unfounded = chain("Is it?", ("q", [ROME], "The moon is made of cheese. So the answer is: yes."))
    assert not evidence_of(replace(unfounded, answer="yes"))[1]


def test_a_passage_read_before_still_supports_a_later_step() -> None:
    later = chain("Q?", ("q", [EMMA], "Nothing to see."), ("q2", [], "Emma is a novel by Jane Austen."))
    assert [len(step["passages"]) for step in evidence_of(later)[0]] == [0, 1]


def test_without_retrieval_nothing_is_supported() -> None:
    assert evidence_of(replace(chain("Q?"), answer="Paris")) == ([], False)
