"""What the checks of a recipe look at, opened once (questions, indexes, a rehearsal with its data set and plan), and what they find."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from steper_agent.records import Question
from training import collect, dataset, distill, evaluate
from training.checks.rehearsal import Rehearsed, rehearse
from training.replay import read_chains

if TYPE_CHECKING:
    from steper_agent.retrieval import IndexRetriever, RemoteRetriever
    from training.examples.dataset_folder import DatasetCard
    from training.recipe import Recipe

State = Literal["ok", "warning", "failed", "skipped"]


class Finding(NamedTuple):
    state: State
    what: str
    where: str = ""
    fix: str = ""


class Opened:
    """Everything raises what the verb raises that would open it; a table that the recipe lacks is a ConfigError."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self._indexes: dict[Path, IndexRetriever | RemoteRetriever] = {}

    @cached_property
    def questions(self) -> list[Question]:
        """Those that collect asks."""
        config = self.recipe.collect
        return collect.questions_of(config, read_chains(config.replay) if config.replay else [])

    @cached_property
    def asked(self) -> list[Question]:
        """Those that evaluate asks."""
        return evaluate.questions_of(self.recipe.evaluate)

    @cached_property
    def judging(self) -> list[Question]:
        """The whole file that evaluate draws from: whoever raises its limit later must not find a leak."""
        return evaluate.questions_of(self.recipe.evaluate.model_copy(update={"limit": 0}))

    def index(self, where: Path) -> IndexRetriever | RemoteRetriever:
        from steper_agent.retrieval import open_retriever

        if where not in self._indexes:
            self._indexes[where] = open_retriever(where)
        return self._indexes[where]

    @cached_property
    def rehearsed(self) -> Rehearsed:
        config = self.recipe.collect
        return rehearse(config, self.questions, self.index(config.index), self.folder)

    @cached_property
    def card(self) -> DatasetCard:
        """Of the rehearsal's data set: what the recipe would make of such chains, all of them kept."""
        return dataset.build(self.recipe.dataset.model_copy(update={
            "journal": (self.rehearsed.journal,), "out": self.folder / "dataset", "held_out": (), "all_answers": True, "supported": False,
            "contributing": False, "dedupe": False, "ungrounded": True, "take": "all", "max_dropped": 1.0, "dry_run": False,
        }))  # fmt: skip

    @property
    def base(self) -> Path:
        return self.recipe.dataset.base if self.recipe.has("dataset") else self.recipe.distill.base

    @cached_property
    def parameters(self) -> int:
        """Of the student's base."""
        from steper_agent.students.fingerprint import weight_files
        from steper_agent.students.weights import count_parameters

        weight_files(self.base)
        return count_parameters(self.base)

    @cached_property
    def plan(self) -> Any:
        """training.loop.plan.Plan over the rehearsal's data set, which holds no teacher's log-probabilities."""
        self.card  # noqa: B018  Its data set is what is planned over.
        return distill.dry_run(self.recipe.distill.model_copy(update={"dataset": self.folder / "dataset", "kl": 0.0}))
