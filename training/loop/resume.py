"""A checkpoint says what it holds, and a run that goes on from it makes sure that it got that: weights, optimizer, σ and place in
the data. Trainers are known to go on from less without a word."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steper_agent.durable import digest_file, write_atomic
from steper_agent.errors import DataError
from steper_agent.records import Record
from training.loop.difficulty import Memory

MARK = "sigma.json"
"""Written last into a checkpoint: one without it was cut short by a crash."""
CLOSE, CLOSE_IN_HALF = 1e-4, 1e-2
"""Largest relative difference of the probe's loss; the second where passes are computed in half precision."""


class Mark(Record):
    step: int
    """Updates done."""
    tokens: int
    seconds: float
    clipped: int
    """Updates whose gradient was longer than it may be."""
    difficulty: Memory
    weights: dict[str, str]
    """Weight files of the checkpoint → SHA-256; empty where they are in shards."""
    probe: float
    """Loss of one fixed example, by these weights."""
    seed: int
    following: tuple[int, ...]
    """Trajectories of the next update, sorted."""


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those a crash cut short are removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / MARK).is_file():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def write_mark(checkpoint: Path, mark: Mark) -> None:
    write_atomic(checkpoint / MARK, mark.model_dump_json())


def read_mark(checkpoint: Path) -> Mark:
    """The mark of a whole checkpoint.

    Raises:
        DataError: it is damaged, or the weights beside it are others than those it was written for.
    """
    try:
        mark = Mark.model_validate_json((checkpoint / MARK).read_bytes())
    except ValidationError as bad:
        raise _other(checkpoint, f"its mark cannot be read ({bad.errors()[0]['msg']})") from bad
    found = weight_digests(checkpoint)
    differ = sorted(name for name in found.keys() | mark.weights.keys() if found.get(name) != mark.weights.get(name))
    if differ:
        raise _other(checkpoint, f"{', '.join(differ)} changed since")
    return mark


def weight_digests(checkpoint: Path) -> dict[str, str]:
    return {file.name: digest_file(file) for file in sorted(checkpoint.glob("*.safetensors"))}


def check_state(checkpoint: Path, mark: Mark, found: Mapping[str, Any]) -> None:
    """Compare what was restored with the mark, by the mark's own names; `optimizer` is how many updates its oldest running mean
    has seen, None where nobody can say.

    Raises:
        DataError: something differs; it is named.
    """
    for name in ("step", "seed", "difficulty"):
        if found[name] != getattr(mark, name):
            raise _other(checkpoint, f"{name} was {getattr(mark, name)} and came back as {found[name]}")
    if found["optimizer"] is not None and found["optimizer"] != mark.step:
        was = "nothing" if found["optimizer"] == 0 else f"{found['optimizer']} updates"
        raise _other(checkpoint, f"the optimizer remembers {was}, not {mark.step} updates")


def check_probe(checkpoint: Path, mark: Mark, probe: float, *, half: bool) -> None:
    """The same weights give the same loss.

    Raises:
        DataError: they do not.
    """
    if not math.isclose(probe, mark.probe, rel_tol=CLOSE_IN_HALF if half else CLOSE):
        raise _other(checkpoint, f"the loss of its probe was {mark.probe:.6f} and is {probe:.6f}: these are not the weights it was saved with")


def check_following(checkpoint: Path, mark: Mark, rows: Iterable[int]) -> None:
    """The first trajectories after the resumption, of this process, are among those that were to come.

    Raises:
        DataError: the data's order is another one.
    """
    others = sorted(set(rows) - set(mark.following))
    if others:
        raise _other(checkpoint, f"the next update was to hold the trajectories {_few(mark.following)}, and holds {_few(others)}")


def _few(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:8])) + (" …" if len(rows) > 8 else "")


def _other(checkpoint: Path, what: str) -> DataError:
    return DataError(f"the checkpoint does not come back as it was saved: {what}", where=checkpoint,
                     fix="delete this checkpoint, and the same command goes on from the one before it")
