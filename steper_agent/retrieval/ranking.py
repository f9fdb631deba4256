"""Which rows come first: best score first, passages that score alike in the order of their ids."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import groupby

Scored = tuple[int, float]
"""A row and its score; higher is better."""

NOISE = 2e-6
"""Part of a score by which two equal sums of 32-bit floats may differ: an engine adds terms in the order it meets them."""


def cut(scored: Sequence[Scored], k: int, id_of: Callable[[int], str]) -> list[Scored]:
    """The k best of `scored`, best first; equal scores are ordered by passage id, which is asked for only where it decides."""
    ranked: list[Scored] = []
    for _, group in groupby(sorted(scored, key=lambda pair: -pair[1]), key=lambda pair: pair[1]):
        if len(ranked) >= k:
            break
        tied = list(group)
        ranked += tied if len(tied) == 1 else sorted(tied, key=lambda pair: id_of(pair[0]))
    return ranked[: max(k, 0)]


def with_ties(fetch: Callable[[int], list[Scored]], k: int, *, first: int = 1) -> list[Scored]:
    """The k best rows and all that tie with the k-th. `fetch(n)` gives the n best rows, best first, or all if there are fewer.

    `first` is the least number fetched: searches that fetch alike also round alike, whatever their k.
    """
    wanted = first
    while wanted <= k:
        wanted *= 2
    while True:
        found = levelled(fetch(wanted))
        if len(found) <= k:
            return found
        if len(found) < wanted or found[-1][1] < found[k - 1][1]:
            return found[: bisect_right(found, -found[k - 1][1], key=lambda pair: -pair[1])]
        wanted *= 2


def levelled(scored: Sequence[Scored]) -> list[Scored]:
    """Scores, best first, that only rounding tells apart become one score, of as many digits as are sure."""
    found: list[Scored] = []
    least, level = float("inf"), 0.0
    for row, score in scored:
        if score < least:
            least, level = score - NOISE * abs(score), float(f"{score:.6g}")
        found.append((row, level))
    return found
