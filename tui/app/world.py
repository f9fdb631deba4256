"""The micro-world of a newcomer who has no index: made once on a machine, and what can be asked about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steper_agent.records import Passage
    from steper_agent.retrieval import IndexRetriever

PASSAGES, SEED = 1500, 0
"""Of the micro-world."""
HOPS = {"2": 0.5, "3": 0.5}
"""Of the questions that are offered: more than one search can answer."""


def open_world() -> IndexRetriever:
    """Its index, made once on this machine; one that is damaged is made again."""
    import shutil

    from steper_agent.errors import IndexFault
    from steper_agent.retrieval import open_index
    from training.microworld.world import make_world

    passages = make_world(PASSAGES, split="test", seed=SEED).passages
    place = _place(passages)
    try:
        return open_index(place)
    except IndexFault:
        shutil.rmtree(place, ignore_errors=True)
        _make(passages, place)
        return open_index(place)


def _place(passages: Sequence[Passage]) -> Path:
    """Where this world is kept; that of another release, whose passages or format are others, lies beside it."""
    from steper_agent.durable import digest
    from steper_agent.retrieval.manifest import FORMAT

    name = f"microworld-{FORMAT}-{digest([one.model_dump() for one in passages])[:12]}"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steper" / name


def _make(passages: Sequence[Passage], place: Path) -> None:
    """Whole or not there."""
    import tempfile

    from steper_agent.durable import write_lines
    from steper_agent.retrieval import build_index

    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as made:
        source = Path(made) / "passages.jsonl"
        write_lines(source, passages)
        build_index([source], Path(made) / "index")
        _settle(Path(made) / "index", place)


def _settle(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():  # Else another process was quicker.
            raise


def world_questions(count: int) -> list[str]:
    from training.microworld.questions import make_questions
    from training.microworld.world import make_world

    return [one.text for one in make_questions(make_world(PASSAGES, split="test", seed=SEED), count, seed=7, mix=HOPS)]
