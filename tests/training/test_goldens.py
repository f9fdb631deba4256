from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steper_agent.records import KINDS, Example, Kind
from training.goldens import OF_EACH_KIND, last_turn, prompts_of


def example(kind: Kind, step: int, learn: tuple[int, ...]) -> Example:
    return Example(trajectory=0, kind=kind, step=step, ids=tuple(range(len(learn))), learn=learn)


@given(st.lists(st.integers(0, 1), min_size=1).filter(any))
def test_behind_a_prompt_stands_the_whole_last_turn(flags: list[int]) -> None:
    at = last_turn(tuple(flags))
    assert flags[at]
    assert at == 0 or not flags[at - 1]
    turn = flags[at:]
    assert turn == sorted(turn, reverse=True), "learned tokens, and then none any more"


def test_every_kind_has_its_first_few_prompts() -> None:
    learn = (0, 0, 1, 1, 0, 1)
    trajectories = [[example(kind, step, learn) for step, kind in enumerate(KINDS, start=1)] for _ in range(5)]
    prompts = list(prompts_of(trajectories))
    assert sorted(prompt.kind for prompt in prompts) == sorted(KINDS * OF_EACH_KIND)
    assert {prompt.ids for prompt in prompts} == {(0, 1, 2, 3, 4)}
