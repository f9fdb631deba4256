"""How well each kind of step was done (StepER's three abilities), by comparing a trajectory with the right chain. Pure.

Every step has a score in [0, 1]; an ability is the mean over the steps of its kind (`views.kind_of`): initialization the first step,
expansion those between, aggregation the last, which concludes.

    line     1 if the line states a hop that no line before it had stated. Else the next hop is looked at. If its passage had been
             found: the share of the hop's words that the line names; in a closed world 0, for a name is right or wrong. If it had
             not, nothing could be stated: in a closed world 1 if the line states nothing and names nobody new, else 0; elsewhere
             the line is not scored.
             Of mere supports: 1 if a sentence of the line rests on a supporting passage that none before it rested on, else 0.
    next     1 if the next hop's passage is found by the step that follows, else 0. Not scored in the last step, nor in a closed
             world, where the line says what is looked for and a search engine's miss is not the model's.
    answer   F1 of the answer, of the last step only: with what the chain comes to, or else with the accepted answers.

A step's score is the mean of those of the three that are known for it. Nothing is known of a run that a node's failure ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from steper_agent.records import KINDS, Kind, Trajectory
from training.attribution.gold import gold_of
from training.attribution.records import Gold
from training.attribution.walk import Walked, share, unstated, walk
from training.examples.views import kind_of
from training.scores.metrics import best, f1


def score_abilities(trajectory: Trajectory, gold: Gold | None = None) -> dict[Kind, float]:
    """By kind; a kind is left out where there was no such step, or nothing is known of it. `gold`: the right chain; by default what
    the question's own record says of it."""
    known = gold or gold_of(trajectory.question)
    if trajectory.stop == "error":
        return {}
    walked, count = walk(trajectory, known), len(trajectory.steps)
    scores: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for step in range(1, count + 1):
        parts = [_line(trajectory, known, walked, step), _next(known, walked, step) if step < count else _answer(trajectory, known)]
        told = [part for part in parts if part is not None]
        if told:
            scores[kind_of(step, count)].append(sum(told) / len(told))
    return {kind: sum(each) / len(each) for kind, each in scores.items() if each}


def _line(trajectory: Trajectory, gold: Gold, walked: Sequence[Walked], step: int) -> float | None:
    seen, next_ = walked[step - 1], _left(gold, walked[: step - 1])
    if next_ is None or gold.certainty == "answer":
        return None
    if seen.stated:
        return 1.0
    if gold.certainty == "supports":
        return 0.0
    if next_ in seen.read:
        return 0.0 if gold.closed else share(trajectory.steps[step - 1].rationale, gold.links[next_])
    return float(not seen.strange) if gold.closed else None


def _next(gold: Gold, walked: Sequence[Walked], step: int) -> float | None:
    next_ = _left(gold, walked[:step])
    return None if gold.closed or next_ is None else float(next_ in walked[step].read)


def _answer(trajectory: Trajectory, gold: Gold) -> float | None:
    right = (gold.answer,) if gold.answer else trajectory.question.answers
    return best(f1, trajectory.answer, right) if right else None


def _left(gold: Gold, walked: Sequence[Walked]) -> int | None:
    """The first hop that none of these steps states."""
    return next(iter(unstated(gold, walked)), None)
