"""Questions under dials: other words mean the same, those without an answer have their share, and each says what touches it."""

from __future__ import annotations

import pytest

from tests.training.microworld.worlds import HARDER, hardened
from training.microworld.asking import WAYS, Meaning, Path, ask, understand
from training.microworld.dials import LONGEST, Dials
from training.microworld.language import BY_LABEL, UNKNOWN, facts_in
from training.microworld.questions import CHAINS, make_questions
from training.microworld.world import make_world

OF_A_QUESTION = {"paraphrase", "missing", "outdated", "contradictory", "unanswerable"}


def test_a_question_in_other_words_means_the_same() -> None:
    one, two = ("birth year",), ("star", "alma mater", "campus")
    for first, second in (("Baldor Zimkin", "Tostel Hivrin"), ("Baldor Zimkin Dernas", "Tostel Hivrin Dernas")):
        meanings = [Meaning("chain", (Path(first, labels),)) for labels in (one, two, (*two, *two))]
        meanings += [Meaning("same", (Path(first, labels), Path(second, labels))) for labels in (one, two)]
        meanings.append(Meaning("earlier", (Path(first, one), Path(second, one))))
        for meaning in meanings:
            asked = [ask(meaning, way) for way in range(len(WAYS[meaning.form]))]
            assert len(set(asked)) == 3
            assert [understand(text) for text in asked] == [meaning] * 3


@pytest.mark.parametrize("text", ["Name.", "What is Baldor Zimkin's?", "Is the mother of Baldor Zimkin also the spouse of Tostel Hivrin?"])
def test_what_is_no_question_in_other_words_is_not_understood(text: str) -> None:
    assert understand(text) is None


def test_longer_questions_reach_the_longest_and_no_farther() -> None:
    world = hardened(Dials(hops=5), passages=600)
    assert {q.meta["hops"] for q in make_questions(world, 50, seed=1, mix=CHAINS)} == {LONGEST}
    asked = make_questions(world, 100, seed=1)
    assert {q.meta["hops"] for q in asked if q.meta["type"] == "same"} == {LONGEST}
    assert sum(q.meta["type"] == "same" for q in asked) > 8


@pytest.mark.parametrize("dial", ["missing", "unanswerable"])
def test_questions_without_an_answer_have_their_share_and_stand_where_the_others_stood(dial: str) -> None:
    plain = make_questions(make_world(400, split="test", seed=3), 100, seed=4)
    world = hardened(Dials.model_validate({dial: 0.3}), passages=400)
    asked = make_questions(world, 100, seed=4)
    spoilt = [question for question in asked if question.meta["dials"] == [dial]]
    assert len(spoilt) == pytest.approx(30, abs=1)
    assert spoilt == [question for question in asked if question.answers == (UNKNOWN,)]
    assert len({one.text for one in asked}) == 100
    for before, after in zip(plain, asked, strict=True):
        assert (before.id, before.meta["hops"], before.meta["type"]) == (after.id, after.meta["hops"], after.meta["type"])
        assert after in spoilt or after.model_copy(update={"meta": before.meta}) == before
        assert after not in spoilt or set(after.supporting_ids) <= set(before.supporting_ids)
    assert make_questions(world, 40, seed=4) == asked[:40]


@pytest.mark.parametrize(("dial", "possible"), [("missing", {True}), ("unanswerable", {True, False})])
def test_what_nobody_says_might_be_said_and_what_cannot_be_might_not(dial: str, possible: set[bool]) -> None:
    """A missing fact is one that its entity could have; of an unanswerable question there is no such entity or no such fact."""
    world = hardened(Dials.model_validate({dial: 0.5}), passages=400)
    stated = {fact[:2]: fact.object for passage in world.passages for fact in facts_in(passage.text)}
    breaks = []
    for question in make_questions(world, 100, seed=4, mix=CHAINS):
        meaning = understand(question.text)
        assert meaning is not None
        at, labels = meaning.paths[0].start, list(meaning.paths[0].labels)
        while labels and (at, labels[0]) in stated:
            at = stated[at, labels.pop(0)]
        assert bool(labels) == (question.answers == (UNKNOWN,))
        breaks += [(world.types.get(at), BY_LABEL[labels[0]].subject)] if labels else []
    assert {kind == wanted for kind, wanted in breaks if kind} == ({True} if dial == "missing" else {False})
    assert {kind is not None for kind, _ in breaks} == possible


@pytest.mark.parametrize("dials", HARDER.values(), ids=HARDER)
def test_a_question_says_which_dials_touch_it(dials: Dials) -> None:
    held = {dial for dial, value in dials.model_dump().items() if value} & OF_A_QUESTION
    found = set[str]()
    for question in make_questions(hardened(dials), 100, seed=4):
        touched, meaning = set(question.meta.get("dials", [])), understand(question.text)
        assert meaning is not None
        assert touched <= held
        assert (question.answers == (UNKNOWN,)) == bool(touched & {"missing", "contradictory", "unanswerable"})
        assert "paraphrase" in touched or ask(meaning) == question.text
        found |= touched
    assert found == held
