"""What a student says to prompts it was trained on, computed where it was trained: whoever serves it is held to this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from steper_agent.models.engine import Engine
from steper_agent.models.tokens import greedy
from steper_agent.records import Example, Golden, Kind
from steper_agent.students.golden import MOST_TOKENS, golden_of
from steper_agent.students.weights import ADAPTER_CONFIG

OF_EACH_KIND = 2


class StepPrompt(NamedTuple):
    kind: Kind
    step: int
    ids: tuple[int, ...]


def goldens_of(base: Path, student: Path, trajectories: Iterable[list[Example]]) -> list[Golden]:
    """The replies of a saved student, PEFT in this process, to the first prompts of every kind in its data set."""
    is_adapter = (student / ADAPTER_CONFIG).is_file()
    engine = Engine(base if is_adapter else student)
    try:
        adapter = engine.load_adapter(student) if is_adapter else None
        return [golden_of(prompt.kind, prompt.step, prompt.ids, greedy(engine, prompt.ids, MOST_TOKENS, adapter))
                for prompt in prompts_of(trajectories)]
    finally:
        engine.close()


def prompts_of(trajectories: Iterable[list[Example]]) -> Iterator[StepPrompt]:
    """What the graph sends at a step, for the first few examples of every kind."""
    taken: Counter[Kind] = Counter()
    for example in (example for trajectory in trajectories for example in trajectory):
        if taken[example.kind] < OF_EACH_KIND:
            taken[example.kind] += 1
            yield StepPrompt(example.kind, example.step, example.ids[: example.turn])
