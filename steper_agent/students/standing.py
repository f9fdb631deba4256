"""Which student is live, which are candidates, which retired: a pure fold over a registry's history. Nothing here
touches a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from steper_agent.errors import AdapterError
from steper_agent.records import StudentEvent

State = Literal["candidate", "live", "retired"]
LISTED = "see: steper students list"
_NAME = re.compile(r"(?:student@)?([0-9a-f]{1,12})")


@dataclass(frozen=True, slots=True)
class Standing:
    """One student as the history leaves it."""

    name: str
    base: str
    state: State
    added: datetime
    changed: int
    """Number of the event that gave it this state; of two students the higher one is the newer."""
    scores: Mapping[str, float]
    """The newest of each."""


@dataclass(frozen=True, slots=True)
class Roll:
    """All students of a registry."""

    students: Mapping[str, Standing] = field(default_factory=dict)
    """By name, in the order they were added."""
    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Base → its live student, last, after those that were live before it and that a rollback goes back to."""
    decided: Mapping[str, int] = field(default_factory=dict)
    """Base → number of the event that last said who is live."""
    pruned: frozenset[str] = frozenset()
    where: object = "registry"
    """What an error names."""

    def live(self, base: str) -> str | None:
        """The student that serves on this base; None: the base alone."""
        return next(iter(self.lines.get(base, ())[-1:]), None)

    def before(self, base: str) -> str | None:
        """What a rollback on this base goes back to."""
        return next(iter(self.lines.get(base, ())[-2:-1]), None)

    def find(self, name: str) -> Standing:
        """The student that a name, or the first digits of its hash, means.

        Raises:
            AdapterError: it is no name, nobody's, or the beginning of several.
        """
        digits = _NAME.fullmatch(name)
        if digits is None:
            raise AdapterError(f"`{name}` is not a student's name", where=self.where,
                               fix="write student@ and its hash, or the first digits of that")
        found = [each for each in self.students.values() if each.name.startswith(f"student@{digits[1]}")]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(each.name for each in found)
            raise AdapterError(f"`{name}` may mean {names}", where=self.where, fix="give more of its digits")
        gone = any(each.startswith(f"student@{digits[1]}") for each in self.pruned)
        raise AdapterError(f"`{name}` was pruned" if gone else f"there is no student `{name}`", where=self.where,
                           fix="add its folder again: steper students add FOLDER" if gone else LISTED)

    def base(self, digits: str | None) -> str:
        """The base whose fingerprint begins so; the only one there is needs no digits.

        Raises:
            AdapterError: there is none, or there are several.
        """
        bases = sorted({each.base for each in self.students.values()})
        found = [base for base in bases if base.startswith(digits or "")]
        if len(found) == 1:
            return found[0]
        if not bases:
            raise AdapterError("there are no students here", where=self.where, fix="add one: steper students add FOLDER")
        shown = ", ".join(base[:12] for base in bases)
        what = f"base `{digits}` is none or several" if digits else "students of several bases are here"
        raise AdapterError(what, where=self.where, fix=f"give --base-fingerprint, one of: {shown}")


def fold(events: Iterable[StudentEvent], where: object = "registry") -> Roll:
    """The state that a history comes to. Total: an event makes its student known where a lost line did not."""
    made = _Folding()
    for number, event in enumerate(events):
        made.take(number, event)
    return Roll({each.name: each for each in made.standings()}, made.lines, made.decided, frozenset(made.pruned), where)


def disposable(roll: Roll, *, keep: int, candidates: bool) -> list[str]:
    """What `prune` takes, per base: the retired (and candidates, if asked) beyond the newest `keep`."""
    takes = {"retired", "candidate"} if candidates else {"retired"}
    pools: dict[str, list[Standing]] = {}
    for each in sorted(roll.students.values(), key=lambda each: -each.changed):
        if each.state in takes:
            pools.setdefault(each.base, []).append(each)
    return [each.name for pool in pools.values() for each in pool[keep:]]


class _Folding:
    """A fold under way."""

    def __init__(self) -> None:
        self.first: dict[str, StudentEvent] = {}
        self.scores: dict[str, dict[str, float]] = {}
        self.changed: dict[str, int] = {}
        self.served: set[str] = set()
        self.lines: dict[str, tuple[str, ...]] = {}
        self.decided: dict[str, int] = {}
        self.pruned: set[str] = set()

    def take(self, number: int, event: StudentEvent) -> None:
        name, base = event.student, self._base_of(event)
        line = self.lines.get(base, ())
        if event.action == "pruned" and name:
            self._forget(name)
            self.lines[base] = tuple(each for each in line if each != name)
            return
        if name and (event.action != "refused" or name in self.first):
            self._note(number, name, event)
        if event.action == "promoted" and name:
            self._seat(number, base, (*(each for each in line if each != name), name))
        elif event.action == "rolled_back":
            back = line[: line.index(name) + 1] if name in line else (name,) if name else ()
            self._seat(number, base, back)

    def standings(self) -> Iterator[Standing]:
        for name, first in self.first.items():
            state: State = "retired" if name in self.served else "candidate"
            if self.lines.get(first.base, ())[-1:] == (name,):
                state = "live"
            yield Standing(name, first.base, state, first.time, self.changed[name], self.scores[name])

    def _base_of(self, event: StudentEvent) -> str:
        """A student keeps the base it came with."""
        known = self.first.get(event.student or "")
        return known.base if known else event.base

    def _note(self, number: int, name: str, event: StudentEvent) -> None:
        if name not in self.first:
            self.first[name], self.scores[name], self.changed[name] = event, {}, number
            self.pruned.discard(name)
        self.scores[name] = {**self.scores[name], **event.scores}

    def _seat(self, number: int, base: str, line: tuple[str, ...]) -> None:
        before = self.lines.get(base, ())[-1:]
        self.lines[base], self.decided[base] = line, number
        self.served |= {*line}
        if before != line[-1:]:
            self.changed |= dict.fromkeys((*before, *line[-1:]), number)

    def _forget(self, name: str) -> None:
        for facts in (self.first, self.scores, self.changed):
            facts.pop(name, None)
        self.served.discard(name)
        self.pruned.add(name)
