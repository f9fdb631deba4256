"""Small hard worlds, a search that misses nothing, and a teacher that answers by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from graphs.run import Context, answer_all
from steper_agent.records import Passage, Question, Trajectory
from training.microworld.dials import PRESETS, Dials
from training.microworld.hardening import make_hard_world
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import World

ALONE = {"hops": 2, "distractors": 3, "paraphrase": 1.0, "missing": 0.5, "outdated": 0.6, "contradictory": 0.2, "unanswerable": 0.5, "noise": 4}
HARDER = {dial: Dials.model_validate({dial: value}) for dial, value in ALONE.items()} | dict(PRESETS)
"""Every dial turned up alone, and the presets."""


class Gold(BaseRetriever):
    """A perfect search: exactly the passages about what the query names."""

    passages: Sequence[Passage]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        del run_manager
        return [Document(id=p.id, page_content=p.text, metadata={"title": p.title}) for p in self.passages if p.title in query]


def answered(questions: Sequence[Question], passages: Sequence[Passage], strategy: str, *, steps: int, patience: int = 0) -> list[Trajectory]:
    teacher = SymbolicTeacher(leads=("",), patience=patience)
    return answer_all(questions, Context(teacher, Gold(passages=passages), strategy=strategy, k=10, steps=steps))


def hardened(dials: Dials, *, passages: int = 250, seed: int = 3) -> World:
    return make_hard_world(passages, split="test", seed=seed, dials=dials)
