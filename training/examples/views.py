"""From a trajectory to what a student is taught: examples whose prompts are the ones the graph sends at that step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from graphs.asking import prompt_of
from graphs.evidence import evidence_of
from graphs.strategies import strategy_named
from graphs.strategies.strategy import SEARCH, Chain, calls_of
from graphs.strategies.tool_calling import SEARCH_TOOL
from steper_agent.chat.codec import Codec
from steper_agent.chat.template import as_written, place
from steper_agent.chat.turns import MARKUP, Part, Turn
from steper_agent.errors import ConfigError
from steper_agent.prompts import segments
from steper_agent.records import KINDS, Call, Example, Kind, Step, Trajectory, View

Target = Literal["cumulative", "incremental"]
"""Which turns carry loss at step s: all up to s (the paper's), or turn s alone."""

Retold = Callable[[Trajectory], Trajectory]
"""The same chain in another strategy's words; what it says rests on no passage but those of the trajectory it is given."""

TARGET_TOO_LONG = "target alone is too long"
PROMPT_TOO_LONG = "too long without spare passages"


@dataclass(frozen=True, slots=True)
class Teaching:
    """What stays the same over a whole data set."""

    tokenizer: Any
    view: View
    target: Target
    max_length: int
    """Tokens of the longest example."""
    kinds: tuple[Kind, ...] = KINDS
    """The view's examples of other kinds are left out."""


class Fit(NamedTuple):
    """What became of one step that the view wants."""

    kind: Kind
    tokens: int
    """Of the whole example, before any passage was left out."""
    example: Example | None
    """None where nothing that may be left out makes it fit."""
    trimmed: int = 0
    """Passages left out."""
    reason: str = ""
    """Why there is no example."""


def kind_of(step: int, steps: int) -> Kind:
    """The ability that step `step` of `steps` trains; a trajectory's only step concludes, and what is said before the
    first search belongs to the first step."""
    if step == steps:
        return "aggregation"
    return "initialization" if step <= 1 else "expansion"


def examples_of(trajectory: Trajectory, row: int, teaching: Teaching) -> tuple[list[Example], int]:
    """The view's examples of one trajectory, and how many more were left out because no cut made them fit."""
    fits = fits_of(trajectory, row, teaching)
    kept = [fit.example for fit in fits if fit.example is not None]
    return kept, len(fits) - len(kept)


def fits_of(trajectory: Trajectory, row: int, teaching: Teaching) -> list[Fit]:
    """Every step that the view and its kinds want, in order, made to fit `max_length`.

    A long example loses passages, the oldest that nothing needs first. Gold passages stay, or, where nobody knows them, those
    that a rationale rests on; so does every token of the target. What is then still too long makes no example.
    """
    steps = len(trajectory.steps)
    first = 0 if strategy_named(trajectory.strategy).OPENS or not steps else 1
    wanted = range(first if teaching.view == "stepwise" else steps, steps + 1)
    return [fit_at(trajectory, row, step, teaching) for step in wanted if kind_of(step, steps) in teaching.kinds]


def uses_other_tools(trajectory: Trajectory) -> bool:
    """Whether it called what only its caller had: a student's prompts could not offer those tools."""
    return any(call.tool != SEARCH for step in trajectory.steps for call in step.calls)


def chain_at(trajectory: Trajectory, step: int, steps: Sequence[Step]) -> Chain:
    """What had been said when step `step` was over, and what it then asked for."""
    asks: tuple[Call, ...] = calls_of(trajectory.steps[step]) if step < len(trajectory.steps) else ()
    return Chain(trajectory.question.text, trajectory.opening, tuple(steps[:step]), asks, trajectory.answer)


def check_template(tokenizer: Any, where: object) -> None:
    """The chat template must show what is said, and end the assistant's turn with one token: a student that has to spell its
    end out in pieces was never taught to stop, and no engine would know that it did.

    Raises:
        ConfigError: the template shows no text, or the tokenizer makes several ids of the turn's end, or none that it knows.
    """
    from jinja2 import TemplateError

    text, turns = "", [Turn({"role": role}, [Part("x")]) for role in ("user", "assistant")]
    with suppress(TemplateError):
        text = as_written(tokenizer, turns, None, ask=False)
    shown, said, after = text.rpartition(place(1))
    if not said or place(0) not in shown:
        raise ConfigError("the chat template does not show what is said", where=where,
                          fix="take a base that is made for texts: models of pictures want them in parts")
    found = MARKUP.match(after.lstrip())
    if found is None:
        return
    ids = Codec.of(tokenizer).markup(found[0])
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        known = "does not know" if len(ids) == 1 else f"splits into {len(ids)} ids"
        raise ConfigError(f"the chat template ends a turn with {found[0]}, which this tokenizer {known}", where=where,
                          fix="take the tokenizer that belongs to this template, or save the base with a template of its own tokens")


def fit_at(trajectory: Trajectory, row: int, step: int, teaching: Teaching, retold: Retold = lambda told: told) -> Fit:
    """One step's example, made to fit. A chain is retold again whenever a passage is left out, so that nothing it says is about
    what the prompt has lost."""
    return made_to_fit(trajectory, step, teaching.max_length, lambda left: _encoded(retold(left), row, step, teaching))


def made_to_fit(trajectory: Trajectory, step: int, max_length: int, encoded: Callable[[Trajectory], Example]) -> Fit:
    """What `encoded` makes of the trajectory, less as many of the passages read up to `step` as it takes."""
    steps = list(trajectory.steps[:step])
    example = encoded(trajectory)
    kind, tokens, trimmed = example.kind, len(example.ids), 0
    needed = needed_of(trajectory) if tokens > max_length else set()
    while len(example.ids) > max_length:
        if sum(example.learn) >= max_length:
            return Fit(kind, tokens, None, reason=TARGET_TOO_LONG)
        if not _drop_oldest_spare(steps, needed):
            return Fit(kind, tokens, None, reason=PROMPT_TOO_LONG)
        example, trimmed = encoded(trajectory.model_copy(update={"steps": (*steps, *trajectory.steps[step:])})), trimmed + 1
    return Fit(kind, tokens, example, trimmed)


def _encoded(trajectory: Trajectory, row: int, step: int, teaching: Teaching) -> Example:
    """The conversation up to the step's turn. What was said before the first search is learned only in its own example, where
    the view has one: elsewhere the passages it led to are already in sight."""
    strategy, end = strategy_named(trajectory.strategy), teaching.tokenizer.eos_token_id
    messages = prompt_of(strategy, strategy.conversation(chain_at(trajectory, step, trajectory.steps)))
    parts = segments(messages, teaching.tokenizer, [SEARCH_TOOL] if strategy.TOOLS else [])
    turns = [number for number, part in enumerate(parts) if part.written]
    is_opened = strategy.OPENS and step > 0 and teaching.view == "stepwise"
    learned = {turns[-1]} if teaching.target == "incremental" else set(turns[1:] if is_opened else turns)
    ids = [id for part in parts for id in part.ids]
    turn = sum(len(part.ids) for part in parts[: turns[-1]])
    learn = [one for number, part in enumerate(parts) for one in [int(number in learned)] * len(part.ids)]
    # A turn that is over ends; a line that another one will follow in the same turn does not.
    is_over = step == len(trajectory.steps) or strategy.TOOLS
    if is_over and end is not None and ids[-1] != end:
        ids, learn = [*ids, end], [*learn, 1]
    return Example(trajectory=row, kind=kind_of(step, len(trajectory.steps)), step=step, ids=tuple(ids), learn=tuple(learn), turn=turn)


def needed_of(trajectory: Trajectory) -> set[str]:
    """Ids of the passages that an example never loses: the gold ones, or, where nobody knows them, those that a line rests on."""
    if trajectory.question.supporting_ids:
        return set(trajectory.question.supporting_ids)
    told, _ = evidence_of(chain_at(trajectory, len(trajectory.steps), trajectory.steps))
    return {passage["id"] for step in told for passage in step["passages"]}


def _drop_oldest_spare(steps: list[Step], needed: set[str]) -> bool:
    """Leave out the oldest passage that supports nothing; False if there is none."""
    for number, step in enumerate(steps):
        spare = next((hit for hit in step.hits if hit.passage.id not in needed), None)
        if spare is not None:
            steps[number] = step.model_copy(update={"hits": tuple(hit for hit in step.hits if hit is not spare)})
            return True
    return False
