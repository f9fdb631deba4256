"""From a trajectory to what a student is taught: examples whose prompts are the ones the graph sends at that step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from graphs.asking import prompt_of
from graphs.strategies import strategy_named
from graphs.strategies.strategy import SEARCH, Chain, calls_of
from graphs.strategies.tool_calling import SEARCH_TOOL
from steper_agent.prompts import segments
from steper_agent.records import Call, Example, Kind, Step, Trajectory

View = Literal["stepwise", "vanilla"]
"""One example a step, or the last step's only."""

Target = Literal["cumulative", "incremental"]
"""Which turns carry loss at step s: all up to s (the paper's), or turn s alone."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """What stays the same over a whole data set."""

    tokenizer: Any
    view: View
    target: Target
    max_length: int
    """Tokens of the longest example."""


def kind_of(step: int, steps: int) -> Kind:
    """The ability that step `step` of `steps` trains; a trajectory's only step concludes, and what is said before the
    first search belongs to the first step."""
    if step == steps:
        return "aggregation"
    return "initialization" if step <= 1 else "expansion"


def examples_of(trajectory: Trajectory, row: int, teaching: Teaching) -> tuple[list[Example], int]:
    """The view's examples of one trajectory, and how many more were left out because no cut made them fit."""
    steps = len(trajectory.steps)
    first = 0 if strategy_named(trajectory.strategy).OPENS or not steps else 1
    wanted = range(first if teaching.view == "stepwise" else steps, steps + 1)
    made = [_example(trajectory, row, step, teaching) for step in wanted]
    kept = [example for example in made if example is not None]
    return kept, len(made) - len(kept)


def uses_other_tools(trajectory: Trajectory) -> bool:
    """Whether it called what only its caller had: a student's prompts could not offer those tools."""
    return any(call.tool != SEARCH for step in trajectory.steps for call in step.calls)


def chain_at(trajectory: Trajectory, step: int, steps: Sequence[Step]) -> Chain:
    """What had been said when step `step` was over, and what it then asked for."""
    asks: tuple[Call, ...] = calls_of(trajectory.steps[step]) if step < len(trajectory.steps) else ()
    return Chain(trajectory.question.text, trajectory.opening, tuple(steps[:step]), asks, trajectory.answer)


def _example(trajectory: Trajectory, row: int, step: int, teaching: Teaching) -> Example | None:
    steps, gold = list(trajectory.steps[:step]), set(trajectory.question.supporting_ids)
    while True:
        example = _encoded(trajectory, row, step, steps, teaching)
        if len(example.ids) <= teaching.max_length:
            return example
        if not _drop_oldest_spare(steps, gold):
            return None


def _encoded(trajectory: Trajectory, row: int, step: int, steps: Sequence[Step], teaching: Teaching) -> Example:
    """The conversation up to the step's turn. What was said before the first search is learned only in its own example:
    elsewhere the passages it led to are already in sight."""
    strategy, end = strategy_named(trajectory.strategy), teaching.tokenizer.eos_token_id
    messages = prompt_of(strategy, strategy.conversation(chain_at(trajectory, step, steps)))
    parts = segments(messages, teaching.tokenizer, [SEARCH_TOOL] if strategy.TOOLS else [])
    turns = [number for number, part in enumerate(parts) if part.written]
    learned = {turns[-1]} if teaching.target == "incremental" else set(turns[1:] if strategy.OPENS and step else turns)
    ids = [id for part in parts for id in part.ids]
    turn = sum(len(part.ids) for part in parts[: turns[-1]])
    learn = [one for number, part in enumerate(parts) for one in [int(number in learned)] * len(part.ids)]
    # A turn that is over ends; a line that another one will follow in the same turn does not.
    is_over = step == len(trajectory.steps) or strategy.TOOLS
    if is_over and end is not None and ids[-1] != end:
        ids, learn = [*ids, end], [*learn, 1]
    return Example(trajectory=row, kind=kind_of(step, len(trajectory.steps)), step=step, ids=tuple(ids), learn=tuple(learn), turn=turn)


def _drop_oldest_spare(steps: list[Step], gold: set[str]) -> bool:
    """Leave out the oldest passage that supports nothing; False if there is none."""
    for number, step in enumerate(steps):
        spare = next((hit for hit in step.hits if hit.passage.id not in gold), None)
        if spare is not None:
            steps[number] = step.model_copy(update={"hits": tuple(hit for hit in step.hits if hit is not spare)})
            return True
    return False
