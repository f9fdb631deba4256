from __future__ import annotations

from steper_agent.records import KINDS, Example, Kind
from training.student.goldens import OF_EACH_KIND, prompts_of


def example(kind: Kind, step: int) -> Example:
    return Example(trajectory=0, kind=kind, step=step, ids=(0, 1, 2, 3, 4, 5), learn=(0, 0, 1, 1, 1, 1), turn=4)


def test_every_kind_has_its_first_few_prompts() -> None:
    trajectories = [[example(kind, step) for step, kind in enumerate(KINDS, start=1)] for _ in range(5)]
    prompts = list(prompts_of(trajectories))
    assert sorted(prompt.kind for prompt in prompts) == sorted(KINDS * OF_EACH_KIND)
    assert {prompt.ids for prompt in prompts} == {(0, 1, 2, 3)}, "and the lines of earlier steps stand in it"
