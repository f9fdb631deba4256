"""What a journal says of its teacher's runs as a whole, for those who judge students beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from steper_agent.errors import JournalError
from steper_agent.journal import read
from steper_agent.records import Finished, NodeRecord


class Journalled(NamedTuple):
    strategy: str
    k: int
    """Passages a search returned; 0 where none says so."""
    runs: int
    """Finished ones."""


def journalled(paths: Sequence[Path]) -> Journalled:
    """The first finished run is read, the others are only counted: journals are long.

    Raises:
        JournalError: a journal is missing, or no run in them is finished.
    """
    for path in paths:
        if not path.is_file():
            raise JournalError("there is no journal here", where=path, fix="run: python -m training.collect --out FOLDER")
    told = [one for path in paths if (one := _first_run(path))]
    if not told:
        raise JournalError("no run in this journal is finished", where=", ".join(map(str, paths)), fix="run the same collect again to finish it")
    return Journalled(*told[0], runs=sum(map(_count_runs, paths)))


def _first_run(path: Path) -> tuple[str, int] | None:
    """Its strategy, and the k of its searches."""
    k = 0
    for record in read(path):
        if isinstance(record, NodeRecord) and record.node == "retrieve":
            k = k or int(record.parameters.get("k", 0))
        elif isinstance(record, Finished):
            return record.strategy, k
    return None


def _count_runs(path: Path) -> int:
    with path.open("rb") as file:
        return sum(line.startswith(b'{"line":"finished"') for line in file)
