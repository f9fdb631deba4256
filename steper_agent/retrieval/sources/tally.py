"""What became of everything that was met while reading: counts, and the first place of every reason to leave something out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from steper_agent.errors import DataError

OnBad = Literal["stop", "skip"]
"""What a broken record, or a broken file of a folder, does: end the reading, or be counted and left out."""


@dataclass(slots=True)
class Skipped:
    first: str
    """Where the first one stands."""
    count: int = 1


@dataclass(slots=True)
class Tally:
    """Pass one in to choose what a bad record does, and read the counts off it when the passages are through."""

    on_bad: OnBad = "stop"
    passages: int = 0
    duplicates: int = 0
    """Passages that came without an id and whose content was there before."""
    skipped: dict[str, Skipped] = field(default_factory=dict)
    """By reason, what was bad and left out."""
    refused: DataError | None = None
    """The first that was left out of the source being read."""
    ignored: dict[str, int] = field(default_factory=dict)
    """By suffix, files of folders that are of no kind we read."""
    beside: str = ""
    """Of those, the first that holds records: beside documents it is read only where it is named itself."""
    blank: int = 0
    """Documents of folders that hold no text, as scanned pages do."""

    def refuse(self, bad: DataError, reason: str = "") -> None:
        """Raise `bad`, or count it and go on; `reason` is what it says before its colon where none is given.

        Raises:
            DataError: `bad` itself, where `on_bad` is "stop".
        """
        if self.on_bad == "stop":
            raise bad
        self.refused = self.refused or bad
        reason = reason or bad.what.partition(":")[0]
        if reason in self.skipped:
            self.skipped[reason].count += 1
        else:
            self.skipped[reason] = Skipped(first=str(bad.where))

    def describe(self) -> list[str]:
        """A line for every count but those of nothing."""
        told = [f"passages: {self.passages:,}"]
        if self.duplicates:
            told.append(f"left out, as the same title and text was there before: {self.duplicates:,}")
        told += [f"left out, {reason}: {one.count:,}, first at {one.first}" for reason, one in self.skipped.items()]
        if self.ignored:
            kinds = (f"{count:,} {suffix or 'without a suffix'}" for suffix, count in sorted(self.ignored.items()))
            told.append(f"files of other kinds, ignored: {', '.join(kinds)}")
        if self.beside:
            told.append(f"records beside documents are indexed by their own name: steper index build {self.beside}")
        if self.blank:
            told.append(f"documents without text (scanned pages need OCR first): {self.blank:,}")
        return told
