"""How hard a micro-world is: a dial for each thing that makes questions over real text hard, and three presets.

At zero every dial leaves the world as it is made. Turned up, each but `hops` adds to what was there, so that a question keeps its
id and two difficulties can be compared question by question. What dials add is made in hardening.py and unanswerable.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from steper_agent.config import Config

LONGEST = 6
"""Hops of the longest question. A run wants as many steps, and one more for each search that misses."""

SAME = ("same", "same4", "same6")
"""Comparisons of 2, 4 and 6 hops."""


class Dials(Config):
    """All of them go up from 0, today's world. Shares are between 0 and 1."""

    hops: int = Field(0, ge=0, le=5, description=f"hops more in every chain, up to {LONGEST} in all; comparisons grow by two at a time")
    distractors: int = Field(0, ge=0, le=8, description="namesakes of every entity: passages whose names share its words and state its relations")
    paraphrase: float = Field(0.0, ge=0, le=1, description="share of sentences and questions in words that pre-training never saw")
    missing: float = Field(0.0, ge=0, le=1, description="share of questions one of whose facts no passage states; the answer is `unknown`")
    outdated: float = Field(0.0, ge=0, le=1, description="share of entities with a second passage marked as of an earlier year; it does not count")
    contradictory: float = Field(0.0, ge=0, le=1, description="share of entities of which two passages disagree, unmarked; the answer is `unknown`")
    unanswerable: float = Field(0.0, ge=0, le=1, description="share of questions about nobody, or a relation nothing of that type has; `unknown`")
    noise: int = Field(0, ge=0, le=20, description="sentences in every passage that state nothing and name another entity")

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if self.missing + self.unanswerable > 1 or self.outdated + self.contradictory > 1:
            raise ValueError("missing and unanswerable share the questions, outdated and contradictory the entities: at most 1 together")
        return self


TODAY = Dials()
"""The world of the shipped base model and of the demo."""
Preset = Literal["easy", "medium", "hard"]
PRESETS: dict[Preset, Dials] = {
    "easy": TODAY,
    "medium": Dials(hops=1, distractors=1, paraphrase=0.1, missing=0.05, outdated=0.1, unanswerable=0.05, noise=1),
    "hard": Dials(hops=2, distractors=3, paraphrase=0.3, missing=0.1, outdated=0.2, contradictory=0.02, unanswerable=0.1, noise=3),
}


def deepen(mix: Mapping[str, float], hops: int) -> dict[str, float]:
    """The shares of question shapes with every chain `hops` longer. `earlier` stays: its two names are its answers."""
    deeper: dict[str, float] = {}
    for shape, share in mix.items():
        if shape.isdigit():
            shape = str(min(LONGEST, int(shape) + hops))
        elif shape.startswith("same"):
            shape = SAME[min(len(SAME) - 1, SAME.index(shape) + hops)]
        deeper[shape] = deeper.get(shape, 0.0) + share
    return deeper
