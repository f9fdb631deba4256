"""Which part of the journals is taught: the first so many trajectories of a seeded order, so that a smaller part lies in a
larger one and learning curves grow by adding."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from steper_agent.errors import ConfigError
from steper_agent.records import Trajectory
from training.examples.filters import Filter

ALL, NOT_DRAWN = "all", "not drawn"
_PART = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12}|/[1-9][0-9]{0,11})?")


def how_many(take: str, total: int) -> int:
    """What `all`, a part (1/4, 0.25) or a number (900) comes to among `total`; a part of something is at least one.

    Raises:
        ConfigError: it is none of these, or more than there are.
    """
    if take == ALL:
        return total
    is_number = take.isascii() and take.isdecimal()
    part = Fraction(take) if _PART.fullmatch(take) else Fraction(0)
    if part <= 0 or (part > 1 and not is_number):
        raise ConfigError(f"`{take}` is no part of the trajectories", where="take", fix="give all, a part (1/4) or a number (900)")
    if is_number and part > total:
        raise ConfigError(f"there are {total} trajectories, not {take}", where="take", fix="take fewer, or all")
    return int(part) if is_number else max(1, round(part * total))


def share_of(trajectories: Sequence[Trajectory], take: str, seed: int) -> dict[str, Filter]:
    """The filter, by its name, that leaves out what is not taken; none where all is. It has to see every trajectory once, in the
    order given.

    The order of the draw goes by a digest of the seed, the question and how many-th of that question it is: it does not depend on
    which run finished first, and journals of the same questions asked in other strategies give the same part.
    """
    if take == ALL or not trajectories:
        return {}
    ranks = [_rank(one, nth, seed) for one, nth in _numbered(trajectories)]
    last = sorted(ranks)[how_many(take, len(ranks)) - 1]
    left = iter(ranks)
    return {f"take {take} by seed {seed}": lambda _trajectory: "" if next(left) <= last else NOT_DRAWN}


def _numbered(trajectories: Iterable[Trajectory]) -> Iterator[tuple[Trajectory, int]]:
    """Each with how many of its question went before it."""
    counts: Counter[str] = Counter()
    for trajectory in trajectories:
        yield trajectory, counts[trajectory.question.id]
        counts[trajectory.question.id] += 1


def _rank(trajectory: Trajectory, nth: int, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{trajectory.question.id}:{nth}".encode()).digest()
