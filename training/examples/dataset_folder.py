"""What a data set's folder holds, and how it is read: examples, and a card that says where they came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from steper_agent.durable import digest_file
from steper_agent.errors import DataError
from steper_agent.records import Example, Kind, Likely, Record, View
from training.examples.lengths import Cuts, Lengths
from training.examples.views import Target

EXAMPLES, CARD = "examples.jsonl", "card.json"


class JournalPart(Record):
    """What one journal gave."""

    path: Path
    digest: str
    """SHA-256."""
    recipes: tuple[str, ...]
    models: tuple[str, ...]
    """Versions that answered."""
    trajectories: dict[str, int]
    """Counts: read, kept, and left out by reason."""
    examples: dict[Kind, int]
    rounds: dict[int, int]
    """Trajectories read, by the round in which a teacher labelled them; 0 where it walked by itself."""


class DatasetCard(Record):
    """What a data set holds and where it came from."""

    view: View
    kinds: tuple[Kind, ...]
    target: Target
    base: str
    """Fingerprint of the base model whose tokenizer made the ids."""
    max_length: int
    filters: tuple[str, ...]
    """Those a trajectory went through, in their order."""
    journals: tuple[JournalPart, ...]
    """In the order given."""
    held_out: dict[str, str]
    """Files of evaluation questions → SHA-256."""
    recipes: tuple[str, ...]
    """Digests of the recipes the trajectories came from."""
    allow_mixed_recipes: bool
    trajectories: dict[str, int]
    """Counts: read, kept, and left out by reason, which add up."""
    examples: dict[Kind, int]
    """Written."""
    examples_trimmed: int
    """Of these: without some of their passages."""
    examples_too_long: int
    """Not written."""
    examples_rewritten: int = 0
    """Not written either: scored turns whose text is spelt in other tokens."""
    examples_with_likely: int = 0
    """Those that have a teacher's log-probabilities."""
    cuts: dict[Kind, Cuts]
    lengths: dict[Kind, Lengths]
    """Of all examples, those not written too, before anything was trimmed."""
    tokens: int
    learned_tokens: int
    plan: tuple[str, ...]
    """Lengths and cuts as people read them, in lines."""
    warnings: tuple[str, ...]
    digest: str
    """SHA-256 of examples.jsonl."""


def read_card(folder: Path) -> DatasetCard:
    """The card of a data set folder."""
    path = folder / CARD
    if not path.is_file():
        raise DataError("there is no data set here", where=folder, fix="make one: python -m training.dataset --out DIR")
    try:
        return DatasetCard.model_validate_json(path.read_bytes())
    except ValidationError as bad:
        what = f"not a data set's card: {bad.errors()[0]['msg']}"
        raise DataError(what, where=path, fix="make the data set again") from bad


class Dataset(NamedTuple):
    """What a data set folder holds."""

    trajectories: list[list[Example]]
    """Of every trajectory, its examples."""
    question_ids: list[str]
    """Of every trajectory, its question; a teacher may have answered one several times."""


def load_dataset(folder: Path) -> Dataset:
    """Checked against the card.

    Raises:
        DataError: the folder is no data set, its examples are not those the card describes, or one of them has nothing to learn.
    """
    card, path = read_card(folder), folder / EXAMPLES
    if not path.is_file() or digest_file(path) != card.digest:
        raise DataError("the examples are not those the card describes", where=path, fix="make the data set again")
    data = Dataset([], [])
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                told = json.loads(line)
                data.question_ids.append(told["question_id"])
                data.trajectories.append([_example(one, f"{path}:{number}") for one in told["examples"]])
            except (ValueError, KeyError, TypeError) as bad:
                raise DataError(f"not a trajectory's examples: {bad!r}", where=f"{path}:{number}", fix="make the data set again") from bad
    return data


def _example(one: dict[str, Any], where: str) -> Example:
    """The digest vouches for what was written, and validating millions of ids one by one takes minutes. What a hand-made data
    set may get wrong without anybody seeing it later is looked at."""
    if len(one["ids"]) != len(one["learn"]):
        raise DataError(f"step {one['step']} has {len(one['ids'])} ids and a mask of {len(one['learn'])}", where=where, fix="give one 0 or 1 an id")
    # Nothing stands before the first token, so nothing can be asked to say it.
    if 1 not in one["learn"][1:] and not one.get("likely"):
        raise DataError(f"step {one['step']} has nothing to learn: no token is marked in `learn`", where=where,
                        fix="mark the target's tokens with 1, or leave the example out")
    likely = Likely.model_validate(one["likely"]) if one.get("likely") else None
    return Example.model_construct(**{**one, "ids": tuple(one["ids"]), "learn": tuple(one["learn"]), "likely": likely})
