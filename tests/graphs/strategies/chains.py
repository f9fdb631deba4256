"""Chains and trajectories made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.strategies.strategy import Chain
from steper_agent.records import Hit, Passage, Step


def step(query: str, passages: Sequence[Passage], rationale: str) -> Step:
    return Step(query=query, hits=tuple(Hit(passage=passage, score=1.0) for passage in passages), rationale=rationale)


def chain(question: str, *steps: tuple[str, Sequence[Passage], str], opening: str = "") -> Chain:
    """A chain from (query, passages, rationale) triples."""
    return Chain(question, opening, tuple(step(*one) for one in steps))


def passage(number: int, text: str = "") -> Passage:
    return Passage(id=f"p{number}", title=f"Title {number}", text=text or f"Text of passage {number}.")
