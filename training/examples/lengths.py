"""How long examples are and what that costs: told before a data set is written, so that nobody learns it from the loss.

A target is never cut. An example that is longer than the student may see loses the oldest passages that nothing needs, and is
dropped if that is not enough; both are counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from steper_agent.errors import ConfigError
from steper_agent.records import KINDS, Kind, Record
from training.examples.views import Fit

LONGEST = 4096
"""Tokens an example may have where nobody asks for more: a base may see many times what a trainer has memory for."""
BUCKETS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Upper edges of the histogram, in tokens."""
MORE = "more"
"""Stands for the edge of what is longer still."""
BAR = 40
"""Cells of the longest bar."""


class Lengths(Record):
    """Of one kind's examples, in tokens, before anything is left out of them."""

    examples: int
    p50: int
    p95: int
    """As long as this or shorter are half of the examples, and 95 % of them."""
    longest: int
    histogram: dict[str, int]
    """Upper edge in tokens → examples; empty buckets are left out."""


class Cuts(Record):
    """What was done to make one kind's examples fit."""

    trimmed: int
    """Examples that lost passages."""
    passages: int
    """Those they lost."""
    dropped: dict[str, int]
    """Examples that could not be made to fit, by reason."""


class Tally:
    """What a data set, or one journal's part of it, has come to so far."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.trajectories = Counter({"read": 0, "kept": 0})
        self.examples: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.tokens = self.learned = 0
        self._fits: dict[Kind, list[Fit]] = {kind: [] for kind in kinds}

    def add(self, reason: str, fits: Sequence[Fit]) -> None:
        """One trajectory: why it is left out, if it is, and what became of its steps."""
        self.trajectories.update(["read", reason or "kept"])
        for fit in fits:
            self._fits[fit.kind].append(fit._replace(example=None))
            if fit.example:
                self.examples[fit.kind] += 1
                self.tokens += len(fit.example.ids)
                self.learned += sum(fit.example.learn)

    @property
    def lengths(self) -> dict[Kind, Lengths]:
        return {kind: lengths_of([fit.tokens for fit in fits]) for kind, fits in self._fits.items()}

    @property
    def cuts(self) -> dict[Kind, Cuts]:
        return {kind: _cuts_of(fits) for kind, fits in self._fits.items()}

    def told(self, max_length: int) -> tuple[str, ...]:
        """The plan for people, in lines."""
        return plan_told(self.lengths, self.cuts, max_length)


def _cuts_of(fits: Sequence[Fit]) -> Cuts:
    return Cuts(trimmed=sum(fit.trimmed > 0 for fit in fits), passages=sum(fit.trimmed for fit in fits),
                dropped=dict(Counter(fit.reason for fit in fits if fit.reason)))


def lengths_of(tokens: Sequence[int]) -> Lengths:
    """The figures of one kind; zeros if it has no example."""
    ordered = sorted(tokens)
    edges = [str(edge) for edge in BUCKETS] + [MORE]
    counts = dict.fromkeys(edges, 0)
    for length in ordered:
        counts[edges[sum(length > edge for edge in BUCKETS)]] += 1
    return Lengths(examples=len(ordered), p50=quantile(ordered, 0.5), p95=quantile(ordered, 0.95), longest=max(ordered, default=0),
                   histogram={edge: count for edge, count in counts.items() if count})


def quantile(ordered: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of them does not exceed; 0 of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0


def window_for(max_length: int, window: int | None, base: object) -> int:
    """Tokens the longest example may have; `max_length` 0 leaves it to the base.

    Raises:
        ConfigError: more than the base has positions for, so that its student would learn from what it cannot see.
    """
    if window is not None and max_length > window:
        raise ConfigError(f"max_length is {max_length}, and this base sees {window} tokens", where=base,
                          fix=f"--max-length {window} or less, or take a base with a longer context")
    return max_length or min(LONGEST, window or LONGEST)


def plan_told(lengths: Mapping[Kind, Lengths], cuts: Mapping[Kind, Cuts], max_length: int) -> tuple[str, ...]:
    """The plan for people, in lines: every kind's lengths as bars, and what is trimmed and dropped."""
    most = max((count for one in lengths.values() for count in one.histogram.values()), default=1)
    lines: list[str] = []
    for kind, one in lengths.items():
        lines.append(f"{kind}: {one.examples:,} examples, tokens p50 {one.p50:,}, p95 {one.p95:,}, longest {one.longest:,}")
        for edge, count in one.histogram.items():
            name = f"> {BUCKETS[-1]:,}" if edge == MORE else f"≤ {int(edge):,}"
            lines.append(f"{name:>10}  {'█' * math.ceil(BAR * count / most)} {count:,}")
        lines += _cuts_told(cuts[kind], max_length)
    return tuple(lines)


def _cuts_told(cuts: Cuts, max_length: int) -> list[str]:
    limit = f"to fit {max_length:,} tokens"
    lost = f"  trimmed {limit}: {cuts.trimmed:,} examples lose {cuts.passages:,} passages, the oldest that nothing needs first"
    dropped = [f"  dropped: {count:,} examples, {reason}" for reason, count in cuts.dropped.items()]
    return [*([lost] if cuts.trimmed else []), *dropped]
