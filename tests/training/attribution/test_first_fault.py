"""The first thing that went wrong, with all that may be known of the right chain: its facts, its passages, or its answer alone."""

from __future__ import annotations

import pytest

from steper_agent.errors import DataError
from tests.training.runs import AUSTEN, BORN, CHAIN, CLOSED, EMMA, FIRST, OTHER, QUESTION, RIGHT, WROTE, ran, step
from training.attribution.first_fault import first_fault, in_another_form
from training.attribution.gold import gold_of
from training.attribution.records import Gold

UNSUPPORTED = QUESTION.model_copy(update={"supporting_ids": ()})
BATH = "She was born in Bath. So the answer is: Bath."

CASES = {
    "error": (ran(answer="", stop="error"), "error", None),
    "the answer is blank": (ran(FIRST, step(WROTE, [AUSTEN], BORN), answer=" ", stop="budget"), "format", 2),
    "the right answer with words around it": (ran(FIRST, step(WROTE, [AUSTEN], BORN), answer="the village of Steventon, Hampshire"), "format", 2),
    "a conclusion that nobody could read": (ran(FIRST, step(WROTE, [AUSTEN], f"{BORN} Final result, therefore: Steventon"), answer="?", stop="budget"), "format", 2),
    "its first passage was not found": (ran(step(QUESTION.text, [OTHER], "Cassandra Brook wrote it."), step("x", [OTHER], "So."), answer="Bath"), "not_retrieved", 1),
    "its second passage was not found": (ran(FIRST, step(WROTE, [OTHER], BATH), answer="Bath"), "not_retrieved", 2),
    "the second passage came late, and was not used": (
        ran(FIRST, step(WROTE, [OTHER], "The passages do not say."), step("Jane Austen", [AUSTEN], "They still do not say."), answer="unknown", stop="budget"),
        "not_used", 3),
    "it gave up with the passage in sight": (ran(FIRST, step(WROTE, [AUSTEN], "So the answer is: unknown."), answer="unknown"), "not_used", 2),
    "it read another place": (ran(FIRST, step(WROTE, [AUSTEN], BATH), answer="Bath"), "wrong_entity", 2),
    "it read another author": (ran(step(QUESTION.text, [EMMA], "Emma was written by Mary Shelley."), step("y", [], "Mary Shelley was born in London."), answer="London"),
                               "wrong_entity", 1),
    "it asked about somebody else": (ran(FIRST, step("Where was Mary Shelley born?", [OTHER], "The passages do not say."), answer="unknown"), "wrong_entity", 2),
    "it concludes with another name than its line": (ran(FIRST, step(WROTE, [AUSTEN], f"{BORN} So the answer is: Bath."), answer="Bath"), "wrong_entity", 2),
    "it concluded one hop too early": (ran(step(QUESTION.text, [EMMA], f"{WROTE} So the answer is: Jane Austen."), answer="Jane Austen"), "stopped_early", 1),
    "the budget was too small": (ran(FIRST, answer="Jane Austen", stop="budget"), "never_stopped", 1),
    "it repeated itself": (ran(FIRST, step(WROTE, [AUSTEN], WROTE), step(WROTE, [], WROTE), answer="Jane Austen", stop="budget"), "never_stopped", 2),
    "it went on with all in hand": (ran(FIRST, step(WROTE, [AUSTEN], BORN), step(BORN, [], BORN), answer="Bath", stop="budget"), "never_stopped", 3),
    "the data set is wrong": (RIGHT.model_copy(update={"question": QUESTION.model_copy(update={"answers": ("Winchester",)})}), "wrong_gold", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_answer_is_labelled_by_the_first_thing_that_went_wrong(name):
    trajectory, label, at = CASES[name]
    found = first_fault(trajectory, CHAIN)
    assert found is not None
    assert (found.label, found.step, found.certainty) == (label, at, "chain")
    assert found.detail


def test_a_right_answer_has_no_fault_whatever_led_to_it():
    assert first_fault(RIGHT, CHAIN) is None
    assert first_fault(ran(step("x", [OTHER], "I guess."), answer="steventon!"), CHAIN) is None


@pytest.mark.parametrize(("said", "right"), [("no", "yes"), ("yes", "no")])
def test_a_plain_no_answers_a_question_of_yes_or_no_as_a_yes_does(said, right):
    asked = QUESTION.model_copy(update={"answers": (right,)})
    found = first_fault(ran(FIRST, step(WROTE, [AUSTEN], f"So the answer is: {said}."), answer=said, question=asked), CHAIN.model_copy(update={"answer": right}))
    assert found is not None
    assert (found.label, found.step) == ("stopped_early", 2)


def test_a_mistake_that_is_mended_is_none():
    mended = ran(FIRST, step(WROTE, [AUSTEN], "She was born in Bath."), step("x", [], "No, she was born in Steventon."), answer="Bath")
    found = first_fault(mended, CHAIN)
    assert found is not None
    assert found.step != 1
    late = ran(step(QUESTION.text, [OTHER], "Not said."), step("Emma", [EMMA], WROTE), step(WROTE, [OTHER], BATH), answer="Bath")
    found = first_fault(late, CHAIN)
    assert found is not None
    assert (found.label, found.step) == ("not_retrieved", 3)


@pytest.mark.parametrize(
    ("trajectory", "label", "at"),
    [
        (ran(FIRST, step(WROTE, [OTHER], BATH), answer="Bath"), "not_retrieved", 2),
        (ran(FIRST, step(WROTE, [AUSTEN], "The passages do not say."), answer="unknown"), "not_used", 2),
        (ran(FIRST, step(WROTE, [AUSTEN], "Mary Shelley lived in Bath."), answer="Bath"), "wrong_entity", 2),
        (ran(FIRST, answer="Jane Austen"), "stopped_early", 1),
        (ran(FIRST, step(WROTE, [AUSTEN], "Jane Austen was born in Steventon."), answer="Bath", stop="budget"), "never_stopped", 2),
        (RIGHT.model_copy(update={"question": QUESTION.model_copy(update={"answers": ("Winchester",)})}), "wrong_gold", 2),
        (ran(FIRST, step(WROTE, [AUSTEN], "Jane Austen was born in Steventon."), answer="Bath"), "wrong_entity", 2),
    ],
)
def test_by_the_supporting_passages_alone_a_label_is_coarser_and_says_so(trajectory, label, at):
    trajectory = trajectory.model_copy(update={"steps": tuple(
        one.model_copy(update={"rationale": one.rationale.replace("She was", "Jane Austen was")}) for one in trajectory.steps)})  # fmt: skip
    found = first_fault(trajectory)
    assert found is not None
    assert (found.label, found.step, found.certainty) == (label, at, "supports")


def test_by_the_answer_alone_it_says_what_can_be_said():
    labels = {}
    for name, (trajectory, _, _) in CASES.items():
        question = trajectory.question.model_copy(update={"supporting_ids": ()})
        found = first_fault(trajectory.model_copy(update={"question": question}))
        assert found is not None
        assert found.certainty == "answer"
        labels[name] = found.label
    assert labels["error"] == "error"
    assert labels["the budget was too small"] == "never_stopped"
    assert labels["the right answer with words around it"] == "format"
    assert set(labels.values()) == {"error", "format", "never_stopped", "wrong_entity"}


def test_a_strategy_without_steps_is_labelled_too():
    found = first_fault(ran(answer="Bath", strategy="direct"), CHAIN)
    assert found is not None
    assert (found.label, found.step) == ("wrong_entity", None)


def test_every_label_of_a_chain_that_lies_across_the_supports_is_the_same_in_any_order():
    swapped = QUESTION.model_copy(update={"supporting_ids": QUESTION.supporting_ids[::-1]})
    for trajectory, _, _ in CASES.values():
        own = first_fault(trajectory, gold_of(QUESTION))
        other = first_fault(trajectory, gold_of(swapped))
        assert own is not None
        assert other is not None
        assert own.label == other.label


@pytest.mark.parametrize(
    ("said", "accepted", "same"),
    [
        ("3 April 1885", "April 3, 1885", True),
        ("Malmo", "Malmö", True),
        ("Jean-Luc Picard", "Jean Luc Picard", True),
        ("yes, both are", "yes", True),
        ("they are not the same, so no", "no", True),
        ("there is no such thing", "no", False),
        ("Nolan", "no", False),
        ("Bath", "Steventon", False),
        ("", "Steventon", False),
    ],
)
def test_the_right_answer_is_seen_in_another_form_and_nothing_else_is(said, accepted, same):
    assert in_another_form(said, (accepted,)) == same


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("The birthplace of Jane Austen is Bath Spa.", "wrong_entity"),
        ("The birthplace of Jane Austen Leigh is Steventon Green.", "wrong_entity"),
        ("The mother of Jane Austen is Steventon Green.", "wrong_entity"),
        ("The birthplace of Jane Austen is Jane Austen.", "wrong_entity"),
        ("The passages do not say what the birthplace of Jane Austen is.", "not_used"),
        ("", "not_used"),
        ("The author of Emma Novel is Jane Austen.", "never_stopped"),
        ("The birthplace of Jane Austen is Steventon Green.", "never_stopped"),
    ],
)
def test_in_a_closed_world_a_fact_is_right_or_wrong_as_a_whole(line, label):
    said = ran(step("x", [EMMA], "The author of Emma Novel is Jane Austen."), step("y", [AUSTEN], line), answer="Bath", stop="budget")
    found = first_fault(said, CLOSED)
    assert found is not None
    assert (found.label, found.step) == (label, 2)


def test_a_question_without_an_answer_is_named():
    bare = ran(FIRST, answer="Bath", question=QUESTION.model_copy(update={"answers": ()}))
    with pytest.raises(DataError, match="question q"):
        first_fault(bare, Gold(links=(), certainty="answer"))
