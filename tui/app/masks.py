"""The examples of a data set's file, one trajectory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from steper_agent.errors import DataError
from steper_agent.records import Example
from tui.app.tail import Tail


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
