"""Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): rankings are joined by place, so scales do not matter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

K0 = 60


def fuse(rankings: Iterable[Sequence[int]], *, k0: int = K0) -> list[tuple[int, float]]:
    """Items with the sum of 1 / (k0 + place) over the rankings that hold them, best first, ties by item.

    The terms are summed from the smallest place up, so that the order of the rankings cannot change a rounding.
    """
    places: defaultdict[int, list[int]] = defaultdict(list)
    for ranking in rankings:
        for place, item in enumerate(ranking, start=1):
            places[item].append(place)
    scored = [(item, sum(1.0 / (k0 + place) for place in sorted(found))) for item, found in places.items()]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))
