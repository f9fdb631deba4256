"""A part of the journals is drawn by what the trajectories are about, and a smaller part lies in a larger one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import ConfigError
from steper_agent.records import Question, Trajectory
from training.examples.share import how_many, share_of


def told(*ids: str) -> list[Trajectory]:
    return [Trajectory(question=Question(id=id, text=id), strategy="ircot", steps=(), answer=f"{place}", stop="answered", model="m", recipe="r")
            for place, id in enumerate(ids)]


def taken(trajectories: list[Trajectory], take: str, seed: int = 0) -> list[Trajectory]:
    filters = share_of(trajectories, take, seed)
    return [one for one in trajectories if not any(leaves_out(one) for leaves_out in filters.values())]


MANY = told(*(f"q{number % 70}" for number in range(100)))


@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 5))
def test_a_smaller_part_lies_in_a_larger_one(some, more, seed):
    some, more = sorted((some, more))
    small, large = taken(MANY, str(some), seed), taken(MANY, str(more), seed)
    assert (len(small), len(large)) == (some, more)
    assert all(one in large for one in small)


def test_other_seeds_draw_others_and_the_order_of_the_journal_does_not_matter():
    once = told(*(f"q{number}" for number in range(60)))
    drawn = {one.question.id for one in taken(once, "1/4")}
    assert {one.question.id for one in taken(random.Random(0).sample(once, 60), "1/4")} == drawn
    assert {one.question.id for one in taken(once, "1/4", 1)} != drawn


def test_all_is_no_filter():
    assert share_of(MANY, "all", 3) == {}
    assert taken(MANY, "1") == taken(MANY, "1")
    assert len(taken(MANY, "1")) == 1


@pytest.mark.parametrize("take", ["1/4", "7"])
def test_of_nothing_nothing_is_left_out(take):
    assert share_of([], take, 0) == {}


@pytest.mark.parametrize(("take", "number"), [("all", 90), ("1/4", 22), ("0.5", 45), ("1/1", 90), ("1.0", 90), ("7", 7), ("1/1000", 1), ("90", 90)])
def test_a_part_is_rounded_and_is_never_nothing(take, number):
    assert how_many(take, 90) == number


@pytest.mark.parametrize("take", ["", "0", "-1", "3/2", "1/0", "half", "1e9", "nan", "1/2/3", " 1/2", "1_0", "²", "9" * 400])
def test_what_is_no_part_is_refused(take):
    with pytest.raises(ConfigError, match="is no part"):
        how_many(take, 90)


def test_more_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="there are 90 trajectories, not 91"):
        how_many("91", 90)
