"""What a student is asked to learn: a data set's examples as text, the learned part marked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from steper_agent.errors import DataError, ModelError, StepERError
from steper_agent.records import Example
from tui.app.shelf import CARD, REPORT, SETTINGS, table
from tui.app.tail import Tail

MOST_CHECKED = 1 << 30
"""Bytes of weights that are read to make sure that a base is the one the ids were made with."""
MICRO_WORLD = Path("training") / "microworld" / "base"


class Stretch(NamedTuple):
    """Tokens side by side that are all learned, or all not."""

    ids: tuple[int, ...]
    is_learned: bool
    is_own: bool
    """Of the step's own turn; what stands before is what the graph sends."""


def stretches(example: Example) -> list[Stretch]:
    """An example's tokens in their order, cut where the mask or the turn changes."""
    tokens = zip(example.ids, example.learn, range(len(example.ids)), strict=True)
    groups = groupby(tokens, key=lambda token: (bool(token[1]), token[2] >= example.turn))
    return [Stretch(tuple(id for id, _, _ in group), is_learned, is_own) for (is_learned, is_own), group in groups]


class Examples:
    """The examples of a data set's file by number; a file of any size, for only the place of each line is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: list[int] = []
        """Where each trajectory's line begins."""
        self._tail = Tail(path)

    def scan(self) -> Iterator[int]:
        """Read on to the end of the file; the number of trajectories found, now and then."""
        while piece := self._tail.read():
            if piece.is_restart:
                self.places = []
            at = piece.start
            for line in piece.data.split(b"\n")[:-1]:
                self.places.append(at)
                at += len(line) + 1
            yield len(self.places)

    def read(self, number: int) -> list[Example]:
        """The examples of one trajectory, counted from 0.

        Raises:
            DataError: there is no such trajectory, or its line is no example.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.places[number])
                told = json.loads(file.readline())
            return [Example.model_validate(each) for each in told["examples"]]
        except IndexError as bad:
            raise DataError("there is no such trajectory", where=self.path, fix=f"choose 1 to {len(self.places)}") from bad
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as bad:
            raise DataError(f"not an example: {bad}", where=f"{self.path}:{number + 1}", fix="make the data set again") from bad


def bases_of(folder: Path) -> list[Path]:
    """Where the base may lie that a data set was made for: as the settings and reports around it say, then the micro-world's."""
    said = [table(folder / SETTINGS).get("base"), table(folder.parent / SETTINGS).get("base")]
    for report in sorted(folder.parent.glob(f"*/{REPORT}")):
        settings = table(report).get("settings")
        if isinstance(settings, dict) and str(settings.get("dataset", "")).endswith(folder.name):
            said.append(settings.get("base"))
    micro_world = Path(__file__).parents[2] / MICRO_WORLD
    return [*dict.fromkeys([Path(path) for path in said if isinstance(path, str)] + [micro_world])]


def open_decoder(folder: Path) -> Callable[[tuple[int, ...]], str]:
    """What turns the ids of this data set into text.

    Raises:
        StepERError: the base is not to be found, is another one, or its tokenizer cannot be opened.
    """
    from steper_agent.models.loading import open_tokenizer
    from steper_agent.students.fingerprint import base_fingerprint, weight_files

    wanted = table(folder / CARD).get("base")
    refused: list[StepERError] = []
    for base in bases_of(folder):
        try:
            if sum(file.stat().st_size for file in weight_files(base)) <= MOST_CHECKED and base_fingerprint(base) != wanted:
                raise ModelError("this is not the base the data set was made for", where=base, fix="put that one there")
            tokenizer = open_tokenizer(base)
        except StepERError as bad:
            refused.append(bad)
            continue
        return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False))
    raise refused[0]
