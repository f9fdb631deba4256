"""Every way of reasoning over the micro-world: as right as a perfect search would let it be, and no fault on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from graphs.run import Context, answer_all
from graphs.strategies import STRATEGIES
from steper_agent.journal import Journal, read
from steper_agent.records import NodeRecord, Question, Trajectory
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from training.microworld.questions import make_questions
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import World, make_world

QUESTIONS = 200
NEEDS_ITS_SEARCHES = {"ircot", "self_ask", "tool_calling", "self_rag"}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(1500, split="test", seed=11)


@pytest.fixture(scope="module")
def questions(world: World) -> list[Question]:
    return make_questions(world, QUESTIONS, seed=12)


@pytest.fixture(scope="module")
def index(world: World, tmp_path_factory: pytest.TempPathFactory) -> IndexRetriever:
    folder = tmp_path_factory.mktemp("world")
    (folder / "corpus.jsonl").write_text("".join(passage.model_dump_json() + "\n" for passage in world.passages), encoding="utf-8")
    build_index([folder / "corpus.jsonl"], folder / "index")
    return open_index(folder / "index")


class Gold(BaseRetriever):
    """A perfect search: exactly the passages about what the query names."""

    world: Any

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        del run_manager
        return [Document(id=p.id, page_content=p.text, metadata={"title": p.title}) for p in self.world.passages if p.title in query]


def exact(made: list[Trajectory]) -> float:
    return sum(one.answer == one.question.answers[0] for one in made) / len(made)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_is_as_right_as_a_perfect_search_allows(
    strategy: str, world: World, questions: list[Question], index: IndexRetriever, tmp_path: Path
) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        context = Context(SymbolicTeacher(), index, strategy=strategy, k=3, steps=6, journal=journal)
        made = answer_all(questions, context)
    allowed = exact(answer_all(questions, Context(SymbolicTeacher(), Gold(world=world), strategy=strategy, k=10, steps=6)))
    faults = sum(isinstance(line, NodeRecord) and line.outcome == "parse_error" for line in read(tmp_path / "j.jsonl"))
    spent = sum(one.stop == "budget" for one in made)
    print(f"{strategy}: EM {exact(made):.3f}, a perfect search allows {allowed:.3f}; {faults} parse errors, {spent} ended by the budget")
    assert exact(made) >= 0.9 * allowed
    assert faults == 0
    assert {one.stop for one in made} <= {"answered", "budget"}
    # What the bound is worth: everything where a step may search, one hop where only the question may, nothing without.
    assert (allowed == 1.0) == (strategy in NEEDS_ITS_SEARCHES)
    assert (allowed == 0.0) == (strategy == "direct")
