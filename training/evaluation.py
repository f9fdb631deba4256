"""From finished trajectories to figures: scores with intervals, how much evidence each step had found, why questions
failed, and what a question cost. Pure: nothing is run and nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from steper_agent.errors import DataError
from steper_agent.records import Kind, NodeRecord, Record, Score, Trajectory
from training.attribution.records import FAULTS, Fault, FaultLabel, Mean, mean_by_kind
from training.scores.metrics import DEFINITION, HOTPOTQA, Interval, Rules, best, interval, recall_at, score

if TYPE_CHECKING:
    from training.attribution.records import Gold

Failure = Literal["error", "parse_error", "gold_never_retrieved", "budget", "retrieved_but_wrong", "support_unknown"]
"""Why a question was not answered exactly, the earliest cause first: a node failed; no answer could be read; a
supporting passage was never found; all were found but the step budget ran out; all were found and the chain concluded
wrongly; it concluded wrongly and nobody knows which passages it needed."""

FAILURES: tuple[Failure, ...] = get_args(Failure)


class Effort(Record):
    """What one question cost, over all its nodes, failed tries included."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    parse_errors: int = 0


class Cost(Record):
    """Effort over all questions."""

    seconds_mean: float
    seconds_median: float
    seconds_p95: float
    prompt_tokens: float
    """Mean a question."""
    completion_tokens: float
    parse_errors: int
    """Questions with at least one node whose text could not be read."""


class Evaluation(Record):
    score: Score
    intervals: dict[str, Interval]
    """95 % bootstrap interval of each mean in `score`."""
    support_recall: tuple[float, ...]
    """Mean share of supporting passages found up to step 1, 2, …; a chain that ended keeps its last share."""
    support_n: int
    """Questions whose supporting passages are known."""
    failures: dict[Failure, int]
    """Every question whose EM is 0, once."""
    faults: dict[FaultLabel, int] = {}
    """The same questions by the first thing that went wrong (training.attribution.first_fault)."""
    abilities: dict[Kind, Mean] = {}
    """By comparison with the right chains (training.attribution.abilities); a kind of which nothing is known is left out."""
    steps: float
    """Mean a question."""
    cost: Cost | None = None
    """None where nobody measured."""
    definition: str = DEFINITION


class Verdict(Record):
    """One question's judgement: one line of `predictions.jsonl`."""

    id: str
    question: str
    prediction: str
    answers: tuple[str, ...]
    em: float
    f1: float
    acc: float
    stop: str
    steps: int
    support: float | None
    """Share of supporting passages found in the whole run; None if unknown."""
    failure: Failure | None
    first_fault: Fault | None = None
    """What went wrong first; None for a right answer."""
    abilities: dict[Kind, float] = {}
    """In [0, 1], of the kinds of step that could be scored."""


def evaluate_trajectories(
    trajectories: Sequence[Trajectory], *, efforts: Mapping[str, Effort] | None = None, rules: Rules = HOTPOTQA,
    golds: Mapping[str, Gold] | None = None, seed: int = 0,
) -> Evaluation:  # fmt: skip
    """All figures of one evaluation. By question id: `efforts`, from `efforts_of` a journal, and `golds`, the right chains, from
    `golds_of`; without one a question's own record says what it can.

    Raises:
        DataError: there is no trajectory, or a question has no answer.
    """
    verdicts = [judge(one, rules, golds.get(one.question.id) if golds else None) for one in trajectories]
    scored = score([(one.answer, one.question.answers) for one in trajectories], rules=rules, seed=seed)
    curves = [support_curve(one) for one in trajectories if one.question.supporting_ids]
    failed = [verdict.failure for verdict in verdicts if verdict.failure]
    faults = [verdict.first_fault.label for verdict in verdicts if verdict.first_fault]
    known = [efforts[one.question.id] for one in trajectories if one.question.id in efforts] if efforts else []
    return Evaluation(
        score=scored,
        intervals={
            "em": scored.ci,
            "f1": interval([verdict.f1 for verdict in verdicts], seed=seed),
            "acc": interval([verdict.acc for verdict in verdicts], seed=seed),
        },
        support_recall=_mean_curve(curves),
        support_n=len(curves),
        failures={name: failed.count(name) for name in FAILURES},
        faults={label: faults.count(label) for label in FAULTS},
        abilities=mean_by_kind([verdict.abilities for verdict in verdicts], seed=seed),
        steps=sum(verdict.steps for verdict in verdicts) / len(verdicts),
        cost=_cost(known) if known else None,
        definition=rules.definition,
    )


def judge(trajectory: Trajectory, rules: Rules = HOTPOTQA, gold: Gold | None = None) -> Verdict:
    """One trajectory against its gold answers and supports, and the right chain where one is given or its question's record has one."""
    from training.attribution.abilities import score_abilities
    from training.attribution.first_fault import first_fault

    question, said = trajectory.question, trajectory.answer
    if not question.answers:
        raise DataError("a question without an answer cannot be scored", where=f"question {question.id}",
                        fix="give it an answer in the questions file, or leave it out")
    exact, overlap, contained = (best(metric, said, question.answers) for metric in (rules.em, rules.f1, rules.acc))
    curve = support_curve(trajectory) if question.supporting_ids else ()
    support = (curve[-1] if curve else 0.0) if question.supporting_ids else None
    return Verdict(
        id=question.id, question=question.text, prediction=said, answers=question.answers, em=exact, f1=overlap,
        acc=contained, stop=trajectory.stop, steps=len(trajectory.steps), support=support,
        failure=None if exact else _failure(trajectory, support), first_fault=None if exact else first_fault(trajectory, gold),
        abilities=score_abilities(trajectory, gold),
    )  # fmt: skip


def support_curve(trajectory: Trajectory) -> tuple[float, ...]:
    """Share of the supporting passages found up to each step."""
    found: list[str] = []
    curve = []
    for step in trajectory.steps:
        found += [hit.passage.id for hit in step.hits]
        curve.append(recall_at(found, trajectory.question.supporting_ids, len(found)))
    return tuple(curve)


def efforts_of(records: Iterable[Record]) -> dict[str, Effort]:
    """What each question cost, by question id, from the lines of a journal."""
    efforts: dict[str, Effort] = {}
    for node in records:
        if not isinstance(node, NodeRecord):
            continue
        before = efforts.get(node.question_id, Effort())
        efforts[node.question_id] = Effort(
            seconds=before.seconds + node.seconds,
            prompt_tokens=before.prompt_tokens + (node.usage.prompt_tokens if node.usage else 0),
            completion_tokens=before.completion_tokens + (node.usage.completion_tokens if node.usage else 0),
            parse_errors=before.parse_errors + (node.outcome == "parse_error"),
        )
    return efforts


def _failure(trajectory: Trajectory, support: float | None) -> Failure:
    if trajectory.stop == "error":
        return "error"
    if not trajectory.answer.strip():
        return "parse_error"
    if support is not None and support < 1:
        return "gold_never_retrieved"
    if trajectory.stop == "budget":
        return "budget"
    return "support_unknown" if support is None else "retrieved_but_wrong"


def _mean_curve(curves: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    longest = max(map(len, curves), default=0)
    padded = [curve + (curve[-1] if curve else 0.0,) * (longest - len(curve)) for curve in curves]
    return tuple(sum(column) / len(column) for column in zip(*padded, strict=True))


def _cost(efforts: Sequence[Effort]) -> Cost:
    seconds, n = sorted(effort.seconds for effort in efforts), len(efforts)
    return Cost(
        seconds_mean=sum(seconds) / n,
        seconds_median=seconds[n // 2],
        seconds_p95=seconds[min(n - 1, int(0.95 * n))],
        prompt_tokens=sum(effort.prompt_tokens for effort in efforts) / n,
        completion_tokens=sum(effort.completion_tokens for effort in efforts) / n,
        parse_errors=sum(effort.parse_errors > 0 for effort in efforts),
    )
