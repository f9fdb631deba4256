"""Figures of an evaluation come from the trajectories alone; every miss has one cause."""

from __future__ import annotations

import pytest

from steper_agent.errors import DataError
from steper_agent.records import Finished, Hit, NodeRecord, Passage, Question, Step, Trajectory, Usage
from training.evaluation import FAILURES, efforts_of, evaluate_trajectories, judge, support_curve


def step(*ids: str) -> Step:
    hits = tuple(Hit(passage=Passage(id=name, title=name, text=name), score=1.0) for name in ids)
    return Step(query="q", hits=hits, rationale="r")


def trajectory(number: int = 0, *, said: str = "Austen", stop: str = "answered", found: tuple[str, ...] = ("a", "b"),
               supports: tuple[str, ...] = ("a", "b")) -> Trajectory:  # fmt: skip
    question = Question(id=f"q{number}", text="Who?", answers=("Austen",), supporting_ids=supports)
    return Trajectory.model_validate({
        "question": question, "strategy": "ircot", "steps": tuple(step(name) for name in found), "answer": said,
        "stop": stop, "model": "m", "recipe": "r",
    })  # fmt: skip


def node(question: str, seconds: float, *, outcome: str = "ok", usage: Usage | None = None) -> NodeRecord:
    return NodeRecord.model_validate({
        "run": question, "question_id": question, "node": "reason", "step": 1, "key": "k", "input": "", "output": "",
        "seconds": seconds, "outcome": outcome, "usage": usage,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (trajectory(), None),
        (trajectory(said="", stop="error", found=()), "error"),
        (trajectory(said=" ", stop="budget"), "parse_error"),
        (trajectory(said="Emma", found=("a",)), "gold_never_retrieved"),
        (trajectory(said="Emma", stop="budget"), "budget"),
        (trajectory(said="Emma"), "retrieved_but_wrong"),
        (trajectory(said="Emma", supports=()), "support_unknown"),
        (trajectory(found=("x",)), None),
    ],
)
def test_every_miss_has_its_earliest_cause(made, cause):
    assert judge(made).failure == cause


def test_causes_add_up_to_the_questions_missed():
    made = [trajectory(0), trajectory(1, said="Emma"), trajectory(2, said="", stop="error", found=())]
    found = evaluate_trajectories(made)
    assert set(found.failures) == set(FAILURES)
    assert sum(found.failures.values()) == round((1 - found.score.em) * len(made)) == 2


def test_support_never_falls_and_a_chain_that_ended_keeps_its_share():
    made = [trajectory(0, found=("a", "x", "b")), trajectory(1, found=("b",)), trajectory(2, supports=())]
    assert support_curve(made[0]) == (0.5, 0.5, 1.0)
    found = evaluate_trajectories(made)
    assert found.support_recall == (0.5, 0.5, 0.75)
    assert found.support_n == 2


def test_a_run_that_failed_before_any_search_found_nothing():
    found = evaluate_trajectories([trajectory(0, said="", stop="error", found=()), trajectory(1, found=("a", "b"))])
    assert found.support_recall == (0.25, 0.5)


def test_the_mean_is_in_its_interval_for_every_metric():
    found = evaluate_trajectories([trajectory(n, said="Austen" if n % 3 else "Jane Austen") for n in range(30)])
    for name, mean in (("em", found.score.em), ("f1", found.score.f1), ("acc", found.score.acc)):
        low, high = found.intervals[name]
        assert low <= mean <= high
    assert found.intervals["em"] == found.score.ci


def test_effort_is_summed_over_the_nodes_of_a_question():
    end = Finished(run="q0", question=Question(id="q0", text="Who?"), strategy="ircot", answer="", stop="answered",
                   model="m", recipe="r", seconds=9)
    lines = [
        node("q0", 1.0, usage=Usage(prompt_tokens=10, completion_tokens=2)),
        node("q1", 5.0),
        node("q0", 2.0, outcome="parse_error", usage=Usage(prompt_tokens=20, completion_tokens=3)),
        end,
    ]
    efforts = efforts_of(lines)
    assert efforts["q0"].model_dump() == {"seconds": 3, "prompt_tokens": 30, "completion_tokens": 5, "parse_errors": 1}
    cost = evaluate_trajectories([trajectory(0), trajectory(1)], efforts=efforts).cost
    assert cost is not None
    assert (cost.seconds_mean, cost.prompt_tokens, cost.parse_errors) == (4, 15, 1)


def test_effort_of_questions_outside_the_evaluation_is_left_out():
    cost = evaluate_trajectories([trajectory(0)], efforts=efforts_of([node("q0", 1.0), node("q9", 99.0)])).cost
    assert cost is not None
    assert cost.seconds_mean == 1


def test_a_question_without_an_answer_is_named():
    bare = trajectory().model_copy(update={"question": Question(id="q7", text="Who?")})
    with pytest.raises(DataError, match="q7"):
        evaluate_trajectories([bare])
    with pytest.raises(DataError, match="no predictions"):
        evaluate_trajectories([])
