"""The grammar of the micro-world's questions: what one means, how it is asked, and how it is read back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from training.microworld.language import BY_LABEL, NAME
from training.microworld.paraphrases import QUESTIONS

Form = Literal["chain", "earlier", "same"]


@dataclass(frozen=True, slots=True)
class Path:
    """Start at an entity and follow relations, the innermost first."""

    start: str
    labels: tuple[str, ...]

    def phrase(self) -> str:
        """As it stands in a question: `the mother of the director of X`."""
        return "".join(f"the {label} of " for label in reversed(self.labels)) + self.start


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a question asks: the paths to follow, and what to do with their ends."""

    form: Form
    paths: tuple[Path, ...]

    def conclude(self, ends: tuple[str, ...]) -> str:
        """The answer, once every path has been followed to its end."""
        if self.form == "chain":
            return ends[0]
        if self.form == "same":
            return "yes" if ends[0] == ends[1] else "no"
        return self.paths[0 if int(ends[0]) <= int(ends[1]) else 1].start


WAYS: dict[Form, tuple[str, ...]] = {
    "chain": ("What is {one}?", *QUESTIONS["chain"]),
    "earlier": ("Which has the earlier {label}, {one} or {two}?", *QUESTIONS["earlier"]),
    "same": ("Do {one} and {two} have the same {label}?", *QUESTIONS["same"]),
}
"""Form → how it is asked; all ways but the first are held out from pre-training."""


def ask(meaning: Meaning, way: int = 0) -> str:
    first, paths = meaning.paths[0], meaning.paths
    sides = paths if meaning.form == "chain" else tuple(Path(path.start, path.labels[:-1]) for path in paths)
    owned = first.start + "".join(f"'s {label}" for label in first.labels)
    return WAYS[meaning.form][way].format(one=sides[0].phrase(), two=sides[-1].phrase(), label=first.labels[-1], owned=owned)


LABELS = "|".join(sorted(BY_LABEL, key=len, reverse=True))
PHRASE = rf"(?:the (?:{LABELS}) of )*{NAME}"
SLOTS = {"one": PHRASE, "two": PHRASE, "label": LABELS, "owned": rf"{NAME}(?:'s (?:{LABELS}))+"}


@cache
def _readers() -> tuple[tuple[Form, re.Pattern[str]], ...]:
    return tuple((form, _reader(form, way)) for form, ways in WAYS.items() for way in ways)


def _reader(form: Form, way: str) -> re.Pattern[str]:
    """The inverse of one way to ask. A slot that occurs twice holds the same twice."""
    pattern = re.escape(way)
    for slot, held in SLOTS.items():
        mark, inside = re.escape(f"{{{slot}}}"), NAME if form == "earlier" and held is PHRASE else held
        pattern = pattern.replace(mark, f"(?P<{slot}>{inside})", 1).replace(mark, f"(?P={slot})")
    return re.compile(pattern)


def understand(question: str) -> Meaning | None:
    """The inverse of `ask`; None for a text that is no question of this language."""
    for form, reader in _readers():
        if found := reader.fullmatch(question):
            return _meaning(form, found.groupdict())
    return None


def _meaning(form: Form, held: dict[str, str]) -> Meaning:
    if "owned" in held:
        start, *labels = held["owned"].split("'s ")
        return Meaning(form, (Path(start, tuple(labels)),))
    ends = (held["label"],) if "label" in held else ()
    sides = [_path(held[side]) for side in ("one", "two") if side in held]
    return Meaning(form, tuple(Path(side.start, side.labels + ends) for side in sides))


def _path(phrase: str) -> Path:
    labels = re.findall(rf"the ({LABELS}) of ", phrase)
    return Path(phrase.rsplit(" of ", 1)[-1], tuple(reversed(labels)))
