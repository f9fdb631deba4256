"""What a student is asked to learn: an example's tokens as text, and the signs around the learned part."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import ModelError, StepERError
from steper_agent.records import Example
from training.microworld import BASE
from training.run_folder import SETTINGS

OPEN, CLOSE = "⟦", "⟧"
"""Around what is learned, so that nobody needs colours or bold letters to see it."""
TURN = "\n▸ here this step's turn begins\n"
MOST_CHECKED = 1 << 30
"""Bytes of weights that are read to make sure that a base is the one the ids were made with."""

Decode = Callable[[tuple[int, ...]], str]
_PLAIN = str.maketrans({OPEN: "[", CLOSE: "]"})


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


def spelled(ids: tuple[int, ...]) -> str:
    """Token ids where no tokenizer can be opened."""
    return " ".join(map(str, ids)) + " "


def unsigned(text: str) -> str:
    """Text that cannot be taken for the signs around what is learned."""
    return text.translate(_PLAIN)


def open_decoder(folder: Path, base: Path | None = None) -> Decode:
    """What turns the ids of this data set into text: the tokenizer of `base`, or of the base that is found around the folder.

    Raises:
        StepERError: the base is not to be found, is another one, or its tokenizer cannot be opened.
    """
    from steper_agent.models.loading import open_tokenizer
    from steper_agent.students.fingerprint import base_fingerprint, weight_files

    wanted = _table(folder / "card.json").get("base")
    refused: list[StepERError] = []
    for place in bases_of(folder) if base is None else [base]:
        try:
            if sum(file.stat().st_size for file in weight_files(place)) <= MOST_CHECKED and base_fingerprint(place) != wanted:
                raise ModelError("this is not the base the data set was made for", where=place, fix="put that one there")
            tokenizer = open_tokenizer(place)
        except StepERError as bad:
            refused.append(bad)
            continue
        return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False))
    raise refused[0]


def bases_of(folder: Path) -> list[Path]:
    """Where the base may lie that a data set was made for: as the settings and reports around it say, then the micro-world's."""
    said = [_table(folder / SETTINGS).get("base"), _table(folder.parent / SETTINGS).get("base")]
    for report in sorted(folder.parent.glob("*/report.json")):
        settings = _table(report).get("settings")
        if isinstance(settings, dict) and str(settings.get("dataset", "")).endswith(folder.name):
            said.append(settings.get("base"))
    return [*dict.fromkeys([Path(path) for path in said if isinstance(path, str)] + [BASE])]


def _table(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty if there is none."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
