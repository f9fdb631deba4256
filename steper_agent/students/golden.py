"""What a student said where it was trained, kept with it: whoever serves it is held to that before anybody is answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from steper_agent.durable import write_lines
from steper_agent.errors import AdapterError
from steper_agent.models.decoding import Done
from steper_agent.records import Golden, Kind
from steper_agent.students.student import GOLDEN

MOST_TOKENS = 16
"""Of a golden reply."""
TIE = 0.3
"""Margin, in nats, below which another engine may choose the second likeliest token: bfloat16 moves a log-probability of a
likely token by about 0.05, float32 by less than 0.001."""
DRIFT = 0.3
"""Most that a token's log-probability may differ, in nats; for unlikelier tokens as much more as they are unlikely, in part."""
SHARE = 0.05
"""That part."""


class Greedy(Protocol):
    def greedy(self, prompt: Sequence[int], max_tokens: int) -> Done: ...


class Divergence(NamedTuple):
    """Where what is said first differs from what was said."""

    kind: Kind
    step: int
    place: int
    """Token of the reply, from 0."""
    expected: int
    found: int | None
    """None where the reply ended before."""
    gap: float
    """In nats: the margin of the expected token where another was chosen, else the drift of its log-probability."""

    def __str__(self) -> str:
        what = "ends" if self.found is None else f"says token {self.found}"
        if self.found == self.expected:
            what = f"finds token {self.found} likelier or unlikelier by {self.gap:.3f} nats"
        return f"at token {self.place} of {self.kind}, step {self.step}, it {what}; its trainer saw token {self.expected}"


def golden_of(kind: Kind, step: int, prompt: Sequence[int], said: Done) -> Golden:
    """A greedy reply as what others are held to."""
    return Golden(
        kind=kind, step=step, prompt=tuple(prompt), output=said.output_ids,
        logprobs=tuple(chance.logprob for chance in said.chances),
        margins=tuple(chance.top[0][1] - chance.top[1][1] for chance in said.chances),
        rivals=tuple(chance.top[1][0] for chance in said.chances),
    )  # fmt: skip


def divergence(golden: Golden, said: Done) -> Divergence | None:
    """The first place where a reply differs by more than arithmetic explains. Behind a near-tie that tipped to the rival the
    two go different ways, rightly, and nothing more is compared."""
    for place, expected in enumerate(golden.output):
        found = said.output_ids[place] if place < len(said.output_ids) else None
        margin, logprob = golden.margins[place], golden.logprobs[place]
        if found != expected:
            tipped = margin <= TIE and found == golden.rivals[place]
            return None if tipped else Divergence(golden.kind, golden.step, place, expected, found, margin)
        drift = abs(said.chances[place].logprob - logprob)
        if drift > DRIFT + SHARE * abs(logprob):
            return Divergence(golden.kind, golden.step, place, expected, found, drift)
    return None


def check_golden(model: Greedy, goldens: Iterable[Golden], where: object) -> None:
    """Hold a model to what its trainer saw.

    Raises:
        AdapterError: it says something else, and where.
    """
    for golden in goldens:
        found = divergence(golden, model.greedy(golden.prompt, max(1, len(golden.output))))
        if found:
            raise AdapterError(f"it does not say what it said when it was trained: {found}", where=where,
                               fix="see `steper students parity`; the weights, the base or the engine's arithmetic differ")


def write_golden(folder: Path, goldens: Sequence[Golden]) -> None:
    write_lines(folder / GOLDEN, goldens)
