"""The micro-world of a newcomer who has no index: made once on a machine, and what can be asked about it."""

from __future__ import annotations

import os
from pathlib import Path

PASSAGES, SEED = 1500, 0
"""Of the micro-world."""
HOPS = {"2": 0.5, "3": 0.5}
"""Of the questions that are offered: more than one search can answer."""


def world_index() -> Path:
    """Made once on this machine, and whole or not there."""
    import tempfile

    from steper_agent.durable import write_lines
    from steper_agent.retrieval import build_index
    from training.microworld.world import make_world

    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steper" / f"microworld-{PASSAGES}-{SEED}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as made:
            passages = Path(made) / "passages.jsonl"
            world = make_world(PASSAGES, split="test", seed=SEED)
            write_lines(passages, world.passages)
            build_index([passages], Path(made) / "index")
            _settle(Path(made) / "index", place)
    return place


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
