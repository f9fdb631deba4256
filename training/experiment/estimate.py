"""What of an experiment is made, what is missing, and about how long that takes: guessed from the parts that are finished."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from training.evaluate import questions_of
from training.examples.share import how_many
from training.experiment.cells import Cell, Workshop, cells_of, name_of
from training.experiment.config import Taught


class Part(NamedTuple):
    """A folder to be made."""

    folder: Path
    like: str
    """Parts of one kind on one model take a like time for their size."""
    size: float
    """Trajectories to read or to train on, or questions to ask."""

    @property
    def kind(self) -> str:
        return self.folder.parent.name


class Guess(NamedTuple):
    seconds: float
    """Of those parts that anything like them is known of."""
    unknown: int
    """Parts of which nothing like them is finished."""

    def told(self) -> str:
        """In words."""
        known = f"about {_clock(self.seconds)}" if self.seconds else ""
        unknown = f"{self.unknown} parts of unknown time" if self.unknown else ""
        return " and ".join(filter(None, (known, unknown))) or "nothing"


class Estimator:
    """Knows what the parts that are finished took when it was made, and the size of those that are not."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self._asked: dict[str, int] = {}
        self._rates = self._known(cells_of(shop.experiment))

    def left(self, cells: Sequence[Cell]) -> Guess:
        missing = {path for cell in cells for path in self.shop.missing(cell)}
        parts = {part.folder: part for cell in cells for part in self.parts(cell)}
        found = [self._rates.get(part.like) or self._rates.get(part.kind) for path, part in parts.items() if path in missing]
        sizes = [part.size for path, part in parts.items() if path in missing]
        return Guess(sum(rate * size for rate, size in zip(found, sizes, strict=True) if rate), sum(not rate for rate in found))

    def parts(self, cell: Cell) -> list[Part]:
        row, found = cell.row, list[Part]()
        who = row.base if isinstance(row, Taught) else row.model
        if isinstance(row, Taught):
            taken = how_many(row.trajectories, self.shop.journals[row.journal].runs)
            trained = row.max_updates * row.batch if row.max_updates else taken * row.epochs
            found += [Part(self.shop.data(row, cell.seed).out, "data", taken),
                      Part(self.shop.student(row, cell.seed).out, f"students {who} {row.view} {row.method}", trained)]
        return found + [Part(self.shop.evaluation(cell, test).out, f"judged {who}", self._questions(cell, test)) for test in self.shop.experiment.tests_of(row)]

    def _questions(self, cell: Cell, test: str) -> int:
        if test not in self._asked:
            self._asked[test] = len(questions_of(self.shop.evaluation(cell, test)))
        return self._asked[test]

    def _known(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Seconds for one of a part's size, by likeness and by kind."""
        missing, known = {path for cell in cells for path in self.shop.missing(cell)}, self.shop.seconds.known()
        seconds, sizes = defaultdict[str, float](float), defaultdict[str, float](float)
        for part in {part.folder: part for cell in cells for part in self.parts(cell)}.values():
            took = known.get(name_of(part.folder))
            if took is None or part.folder in missing:
                continue
            for key in {part.like, part.kind}:
                seconds[key] += took
                sizes[key] += part.size
        return {key: seconds[key] / sizes[key] for key in seconds if sizes[key]}


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02} min" if hours else f"{rest // 60} min {rest % 60:02} s"
