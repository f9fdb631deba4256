"""Every kind of step is scored by what it could know, between nothing and all of the right chain."""

from __future__ import annotations

import pytest

from tests.training.runs import AUSTEN, BORN, CHAIN, CLOSED, CONCLUDED, FIRST, OTHER, QUESTION, RIGHT, WROTE, ran, step
from training.attribution.abilities import score_abilities
from training.attribution.records import mean_by_kind
from training.attribution.walk import walk


def test_a_faultless_run_has_every_score_there_is():
    assert score_abilities(RIGHT, CHAIN) == {"initialization": 1.0, "aggregation": 1.0}
    three = ran(FIRST, step(WROTE, [AUSTEN], BORN), step(BORN, [], "So the answer is: Steventon."), answer="Steventon")
    assert score_abilities(three, CHAIN) == {"initialization": 1.0, "expansion": 1.0, "aggregation": 1.0}


@pytest.mark.parametrize(
    ("trajectory", "scores"),
    [
        # The line is right, and what it leads to was not found.
        (ran(FIRST, step(WROTE, [OTHER], "unknown"), answer="Bath"), {"initialization": 0.5, "aggregation": 0.0}),
        # The line names half of what it should, and the next passage is there.
        (ran(step("x", FIRST_HITS := [hit.passage for hit in FIRST.hits], "Jane wrote it."), step("y", [AUSTEN], CONCLUDED), answer="Steventon"),
         {"initialization": 0.75, "aggregation": 1.0}),
        # One step is all there is: it concludes.
        (ran(FIRST, answer="Jane Austen"), {"aggregation": 0.5}),
        # An answer that shares a word with the right one.
        (ran(FIRST, step(WROTE, [AUSTEN], BORN), answer="Steventon Hampshire"), {"initialization": 1.0, "aggregation": pytest.approx((1 + 2 / 3) / 2)}),
        (ran(answer="", stop="error"), {}),
    ],
)  # fmt: skip
def test_a_score_is_the_mean_of_what_is_known_of_the_step(trajectory, scores):
    assert score_abilities(trajectory, CHAIN) == scores


@pytest.mark.parametrize(("line", "score"), [("The passages do not say what the birthplace of Jane Austen is.", 1.0), ("The birthplace of Jane Austen is Bath Spa.", 0.0)])
def test_where_nothing_could_be_known_saying_nothing_is_right_in_a_closed_world(line, score):
    first = step(QUESTION.text, FIRST_HITS, "The author of Emma Novel is Jane Austen.")
    missed = ran(first, step("a", [OTHER], line), step("b", [], "So the answer is: Bath."), answer="Bath")
    assert score_abilities(missed, CLOSED)["expansion"] == score
    assert score_abilities(missed, CLOSED)["initialization"] == 1.0


def test_by_the_supports_alone_a_line_must_rest_on_one_and_lead_to_the_next():
    found = score_abilities(ran(FIRST, step(WROTE, [AUSTEN], "Jane Austen was born in Steventon."), answer="Steventon"))
    assert found == {"initialization": 1.0, "aggregation": 1.0}
    lost = score_abilities(ran(step("x", [OTHER], "Nothing is said."), step("y", [OTHER], "Bath."), answer="Bath"))
    assert lost == {"initialization": 0.0, "aggregation": 0.0}


def test_by_the_answer_alone_only_the_conclusion_is_known():
    bare = QUESTION.model_copy(update={"supporting_ids": ()})
    assert score_abilities(RIGHT.model_copy(update={"question": bare})) == {"aggregation": 1.0}


def test_scores_stay_between_none_and_all_and_another_line_never_gains():
    for trajectory in (RIGHT, ran(FIRST, step(WROTE, [AUSTEN], BORN), step(BORN, [OTHER], "x"), answer="Bath")):
        before = score_abilities(trajectory, CHAIN)
        for number, taken in enumerate(trajectory.steps):
            spoiled = [*trajectory.steps[:number], taken.model_copy(update={"rationale": "Nothing."}), *trajectory.steps[number + 1 :]]
            after = score_abilities(trajectory.model_copy(update={"steps": tuple(spoiled)}), CHAIN)
            assert all(0 <= after[kind] <= before[kind] <= 1 for kind in before)


def test_means_leave_out_what_is_not_known_and_hold_themselves():
    found = mean_by_kind([{"initialization": 1.0}, {"initialization": 0.0, "aggregation": 0.5}, {}])
    assert list(found) == ["initialization", "aggregation"]
    assert (found["initialization"].mean, found["initialization"].n) == (0.5, 2)
    low, high = found["initialization"].ci
    assert low <= 0.5 <= high
    assert mean_by_kind([]) == {}


def test_a_walk_never_forgets_what_was_stated_or_read():
    seen = walk(ran(FIRST, step(WROTE, [AUSTEN], BORN), step(BORN, [], WROTE), answer="x"), CHAIN)
    assert [sorted(one.stated) for one in seen] == [[0], [1], []]
    assert [sorted(one.read) for one in seen] == [[0], [0, 1], [0, 1]]
    assert [one.again for one in seen] == [False, False, True]
    assert not any(one.strange for one in seen)
