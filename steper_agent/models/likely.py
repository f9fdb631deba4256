"""How likely a model held what was said, as the journal keeps it: few digits, no text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steper_agent.models.decoding import TokenChance
from steper_agent.records import Likely

LEAST = -9999.0
"""Stands for a token that cannot come: JSON knows no infinity."""


def likely_of(chances: Sequence[TokenChance], model: str) -> Likely:
    """The record of what `model` told."""
    return Likely(
        model=model, tokens=tuple(at.token for at in chances), logprobs=tuple(_short(at.logprob) for at in chances),
        top_ids=tuple(tuple(token for token, _ in at.top) for at in chances),
        top_logprobs=tuple(tuple(_short(logprob) for _, logprob in at.top) for at in chances),
    )  # fmt: skip


def likely_in(metadata: Mapping[str, Any]) -> Likely | None:
    """What a reply's `response_metadata` tells; None where it tells no token ids, as of models whose tokenizer we do not hold."""
    told = (metadata.get("logprobs") or {}).get("content") or ()
    if not told or not all("id" in at for at in told):
        return None
    chances = [TokenChance(at["id"], at["logprob"], tuple((top["id"], top["logprob"]) for top in at["top_logprobs"])) for at in told]
    return likely_of(chances, metadata["model_name"])


def _short(logprob: float) -> float:
    return round(max(logprob, LEAST), 4)
