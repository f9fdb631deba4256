"""From a trajectory to what a student is taught: examples whose prompts are the ones the graph sends at that step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from graphs.strategies import strategy_named
from steper_agent.prompts import encode, render
from steper_agent.records import Example, Kind, Passage, Trajectory

View = Literal["stepwise", "vanilla"]
"""One example a step, or the last step's only."""

Target = Literal["cumulative", "incremental"]
"""Which lines carry loss at step s: all up to s (the paper's), or line s alone."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """What stays the same over a whole data set."""

    tokenizer: Any
    view: View
    target: Target
    max_length: int
    """Tokens of the longest example."""


def kind_of(step: int, steps: int) -> Kind:
    """The ability that step `step` of `steps` trains; a trajectory's only step concludes."""
    if step == steps:
        return "aggregation"
    return "initialization" if step == 1 else "expansion"


def examples_of(trajectory: Trajectory, row: int, teaching: Teaching) -> tuple[list[Example], int]:
    """The view's examples of one trajectory, and how many more were left out because no cut made them fit."""
    steps = len(trajectory.steps)
    wanted = range(1, steps + 1) if teaching.view == "stepwise" else range(steps, steps + 1)
    made = [_example(trajectory, row, step, teaching) for step in wanted]
    kept = [example for example in made if example is not None]
    return kept, len(made) - len(kept)


def _example(trajectory: Trajectory, row: int, step: int, teaching: Teaching) -> Example | None:
    lines = _lines(trajectory, step, teaching.tokenizer)
    taught = sum(map(len, lines))
    prompt = _prompt_that_fits(trajectory, step, teaching, teaching.max_length - taught)
    if prompt is None:
        return None
    first = 0 if teaching.target == "cumulative" else step - 1
    learn = [int(number >= first) for number, line in enumerate(lines) for _ in line]
    return Example(trajectory=row, kind=kind_of(step, len(trajectory.steps)), step=step,
                   ids=(*prompt, *(id for line in lines for id in line)), learn=(*(0 for _ in prompt), *learn))


def _lines(trajectory: Trajectory, step: int, tokenizer: Any) -> list[list[int]]:
    """Token ids of the lines of reasoning up to `step`, one by one; the concluding line also ends the turn."""
    target = strategy_named(trajectory.strategy).target
    lines = [encode(target(past.rationale), tokenizer) for past in trajectory.steps[:step]]
    if step == len(trajectory.steps) and tokenizer.eos_token_id is not None:
        lines[-1] = [*lines[-1], tokenizer.eos_token_id]
    return lines


def _prompt_that_fits(trajectory: Trajectory, step: int, teaching: Teaching, room: int) -> list[int] | None:
    """The graph's prompt before any reasoning; if too long, the oldest passages that support nothing are left out."""
    passages = [hit.passage for past in trajectory.steps[:step] for hit in past.hits]
    gold = set(trajectory.question.supporting_ids)
    while True:
        prompt = _prompt(trajectory, passages, teaching.tokenizer)
        if len(prompt) <= room:
            return prompt
        spare = next((number for number, passage in enumerate(passages) if passage.id not in gold), None)
        if spare is None:
            return None
        del passages[spare]


def _prompt(trajectory: Trajectory, passages: Sequence[Passage], tokenizer: Any) -> list[int]:
    reason = strategy_named(trajectory.strategy).reason
    return render(reason(trajectory.question.text, passages, [], continues=True), tokenizer)
