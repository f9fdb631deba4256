"""A cell is one row with one seed: its data set, its student, and its evaluation on every test set. Each lies in a folder named by
the digest of what shapes it, the contents of journals, questions and indexes among it, so what two rows share is made once, what is
finished is only read, and what rests on a file that has changed since is made anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from graphs.strategies import ircot, strategy_named
from steper_agent.durable import digest, digest_file, write_atomic
from steper_agent.errors import ConfigError, DataError
from steper_agent.retrieval import open_retriever
from training.dataset import DatasetConfig
from training.dataset import build as build_dataset
from training.distill import REPORT, DistillConfig, Distilled
from training.distill import run as distill
from training.evaluate import EvaluateConfig
from training.examples.dataset_folder import CARD, DatasetCard
from training.examples.rivals import RIVALS, check_from
from training.examples.share import ALL
from training.experiment.config import Experiment, Row, Served, Taught
from training.journalled import journalled
from training.judged import Judged, held, judged
from training.loop.live import Live

T = TypeVar("T")

SECONDS = "seconds"


class Cell(NamedTuple):
    row: Row
    seed: int

    def told(self) -> str:
        return f"{self.row.name}, seed {self.seed}" if isinstance(self.row, Taught) else self.row.name


class Made(NamedTuple):
    """A finished cell."""

    cell: Cell
    card: DatasetCard | None
    student: Distilled | None
    """None, like the card, where nobody was taught."""
    judged: dict[str, Judged]
    """By test set that the row is judged on, in their order."""


def cells_of(experiment: Experiment, only: tuple[str, ...] = ()) -> list[Cell]:
    return [Cell(row, seed) for row in experiment.rows if not only or row.name in only for seed in experiment.seeds(row)]


class Workshop:
    """Makes the cells of one experiment, one after another."""

    def __init__(self, experiment: Experiment) -> None:
        """Raises:
            ConfigError: the journals searched with different k, and none is given; or an index, a file or a strategy is not there.
            JournalError: a journal is missing or has no finished run.
        """
        self.experiment, self.settings = experiment, experiment.settings
        self.journals = {name: journalled(paths) for name, paths in experiment.journals.items()}
        self.k = self.settings.k or self._k()
        self._contents = {name: digest([digest_file(path) for path in paths]) for name, paths in experiment.journals.items()}
        self._held_out = digest([_content(one.questions) for one in experiment.tests.values()])
        self._indexes = {name: open_retriever(one.index).digest for name, one in experiment.tests.items()}
        self._check()
        self.seconds = _Seconds(self.settings.out / SECONDS)
        self._done: dict[Path, Any] = {}
        self._finished: set[tuple[Path, str]] = set()

    def make(self, cell: Cell, *, again: bool = True) -> Made:
        """The cell, made as far as it is missing. `again`: questions that failed are asked once more."""
        card = student = None
        if isinstance(cell.row, Taught):
            card, student = self._data(cell.row, cell.seed), self._student(cell.row, cell.seed)
        found = {test: self._judged(self.evaluation(cell, test), student, again=again) for test in self.experiment.tests_of(cell.row)}
        return Made(cell, card, student, found)

    def missing(self, cell: Cell) -> list[Path]:
        """Folders of the parts that are not finished: data set, student, evaluations."""
        version, left = "", list[Path]()
        if isinstance(cell.row, Taught):
            data, taught = self.data(cell.row, cell.seed).out, self.student(cell.row, cell.seed).out
            left = [path for path, end in ((data, CARD), (taught, REPORT)) if not (path / end).is_file()]
            version = "none yet" if taught in left else Distilled.model_validate_json((taught / REPORT).read_bytes()).name
        wanted = [self.evaluation(cell, test) for test in self.experiment.tests_of(cell.row)]
        return left + [config.out for config in wanted if not self._is_judged(config, version)]

    def _is_judged(self, config: EvaluateConfig, version: str) -> bool:
        """What is finished stays so while this process runs, and is looked at once."""
        if (config.out, version) not in self._finished and held(config, version) is not None:
            self._finished.add((config.out, version))
        return (config.out, version) in self._finished

    def data(self, row: Taught, seed: int) -> DatasetConfig:
        """The seed counts only where a part is drawn; else all seeds share one data set."""
        config = DatasetConfig(
            journal=self.experiment.journals[row.journal], base=self.experiment.bases[row.base], out=Path(), view=row.view, kinds=row.kinds,
            target=row.target, max_length=row.max_length, held_out=tuple(dict.fromkeys(test.questions for test in self.experiment.tests.values())),
            take=row.trajectories, take_seed=seed if row.trajectories != ALL else 0, **dict.fromkeys(row.filters, True),
        )  # fmt: skip
        more = [self._contents[row.journal], self._held_out]
        return config.model_copy(update={"out": self.settings.out / "data" / _digest(config, "out", more=more)})

    def student(self, row: Taught, seed: int) -> DistillConfig:
        data = self.data(row, seed).out
        config = DistillConfig(
            dataset=data, base=self.experiment.bases[row.base], out=Path(), method=row.method, rank=row.rank, alpha=row.alpha,
            learning_rate=row.learning_rate, epochs=row.epochs, max_steps=row.max_updates, batch=row.batch, weighting=row.weighting,
            sigma_rate=row.sigma_rate, bf16=row.bf16, seed=seed,
        )  # fmt: skip
        return config.model_copy(update={"out": self.settings.out / "students" / _digest(config, "dataset", "out", more=[data.name])})

    def evaluation(self, cell: Cell, test: str) -> EvaluateConfig:
        """The same for every cell but for who answers, and how that one reasons."""
        row, asked, settings = cell.row, self.experiment.tests[test], self.settings
        if isinstance(row, Taught):
            taught = self.student(row, cell.seed).out
            model, who = f"local:{self.experiment.bases[row.base]}+{taught / 'student'}", taught.name
        else:
            model, who = row.model, ""
        config = EvaluateConfig(
            index=asked.index, questions=asked.questions, model=model, strategy=self.strategy(row), k=self.k, steps=settings.steps,
            metrics=asked.metrics, aliases=asked.aliases, gold=asked.gold, judge=settings.judge, limit=settings.limit, seed=settings.seed, max_tokens=settings.max_tokens, concurrency=settings.concurrency,
        )  # fmt: skip
        # How many are asked, and how they are marked, may change: what was answered is not asked again for it. But test sets that
        # differ in their rules alone are each judged in a folder of their own.
        twins = [one for one in self.experiment.tests.values() if (one.index, one.questions) == (asked.index, asked.questions)]
        rules = () if len(twins) > 1 else ("metrics", "aliases")
        left_out = ("out", "limit", "concurrency", "judge", *rules, *(("model",) if who else ()))
        return config.model_copy(update={"out": settings.out / "judged" / _digest(config, *left_out, more=[who, self._indexes[test]])})

    def strategy(self, row: Row) -> str:
        """How a row reasons: a student as its teacher did, or as the rival whose view it learned."""
        if isinstance(row, Taught):
            return row.view if row.view in RIVALS else self.journals[row.journal].strategy
        return row.strategy or next((told.strategy for told in self.journals.values()), ircot.NAME)

    def _data(self, row: Taught, seed: int) -> DatasetCard:
        config = self.data(row, seed)
        return self._once(config.out, CARD, lambda: build_dataset(config))

    def _student(self, row: Taught, seed: int) -> Distilled:
        config = self.student(row, seed)

        def make() -> Distilled:
            with Live() as live:
                return distill(config, on_update=live.show, on_note=live.note, command=f"python -m training.experiment, row {row.name}, seed {seed}")

        return self._once(config.out, REPORT, make)

    def _judged(self, config: EvaluateConfig, student: Distilled | None, *, again: bool) -> Judged:
        return self._once(config.out, "report.json", lambda: judged(config, student.name if student else "", again=again))

    def _once(self, out: Path, end: str, make: Callable[[], T]) -> T:
        if out not in self._done:
            with self.seconds.of(out, end):
                self._done[out] = make()
        return cast(T, self._done[out])

    def _check(self) -> None:
        """Whatever else would be found out by those who are made last."""
        for test in self.experiment.tests.values():
            for path in filter(None, (test.gold, test.aliases)):
                _content(path)
        for row in self.experiment.rows:
            if isinstance(row, Served):
                strategy_named(self.strategy(row))
            elif row.view in RIVALS:
                check_from(row.view, self.journals[row.journal].strategy, f"row {row.name}")

    def _k(self) -> int:
        found = {name: told.k for name, told in self.journals.items()}
        if len(set(found.values())) != 1 or 0 in found.values():
            told = ", ".join(f"{name}: {k or 'unknown'}" for name, k in found.items()) or "there is no journal"
            raise ConfigError(f"nobody says how many passages a search returns ({told})", where="[experiment]",
                              fix="give k; with journals of one k it is theirs")
        return next(iter(found.values()))


def name_of(folder: Path) -> str:
    """Of a part of a cell: `students/0123456789abcdef`."""
    return f"{folder.parent.name}/{folder.name}"


class _Seconds:
    """Wall clock of every finished part by its folder, those of earlier starts included. A file a part, for several processes write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def known(self) -> dict[str, float]:
        return {f"{path.parent.name}/{path.stem}": float(path.read_text(encoding="utf-8")) for path in self.folder.glob("*/*.txt")}

    @contextmanager
    def of(self, part: Path, end: str) -> Iterator[None]:
        """Not counted where the file `end` says that there is nothing to do but to read."""
        was_done, start = (part / end).is_file(), time.perf_counter()
        try:
            yield
        finally:
            if not was_done:
                file = self.folder / f"{name_of(part)}.txt"
                before = float(file.read_text(encoding="utf-8")) if file.is_file() else 0.0
                write_atomic(file, f"{before + time.perf_counter() - start:.2f}\n")


def _content(path: Path) -> str:
    """Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError("there is no such file", where=path, fix="mend its path in the experiment's file")
    return digest_file(path)


def _digest(config: Any, *left_out: str, more: Sequence[str]) -> str:
    """Settings at their defaults are left out, so that a new one in a later version renames nothing."""
    return digest([config.model_dump(mode="json", exclude=set(left_out), exclude_defaults=True), *more])[:16]
