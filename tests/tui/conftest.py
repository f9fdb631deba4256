"""A small world for the commands: its index, and a question of it."""

from __future__ import annotations

import pytest

from steper_agent.records import Question
from steper_agent.retrieval import build_index
from tests.steper_agent.retrieval.shelves import write_lines
from training.microworld.questions import make_questions
from training.microworld.world import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(150, split="test", seed=1)


@pytest.fixture(scope="session")
def asked(world: World) -> Question:
    """A question of two hops, so that it takes two searches."""
    return next(one for one in make_questions(world, 20, seed=2) if len(one.supporting_ids) == 2)


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory, world: World) -> str:
    folder = tmp_path_factory.mktemp("world")
    source = write_lines(folder / "passages.jsonl", [one.model_dump() for one in world.passages])
    build_index([source], folder / "index")
    return str(folder / "index")
