"""Token trees: sequences that begin alike, laid out in one row in which what they share stands once.

The row is depth-first, so that a token's descendants follow it without a gap: token i sees token j iff j ≤ i ≤ last[j]. A branch
stands before those that leave it, the later ones first. So the longest sequence is one run of the row, computed as any causal
row is, and every other branch attends to few runs besides its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Run(NamedTuple):
    """Indices start … end - 1 of a row."""

    start: int
    end: int


class Branch(NamedTuple):
    """A run of tokens, each the parent of the next, and the runs its first token descends from, nearest first."""

    own: Run
    above: tuple[Run, ...]


class Tree(NamedTuple):
    """Sequences as one row of T tokens; several that share nothing are a forest, which is the same to us."""

    ids: Ids
    """(T,) tokens."""
    positions: Ids
    """(T,) of each in its own sequences."""
    last: Ids
    """(T,) index of the last descendant of each, itself if it has none."""
    branches: tuple[Branch, ...]
    """They cover the row, in its order."""
    places: tuple[Ids, ...]
    """For every sequence, where in the row its tokens are."""


def tree_of(sequences: Sequence[Ids]) -> Tree:
    """The trie of some sequences of ids, none of them empty."""
    root = _Branch(np.empty(0, dtype=np.int64))
    trails: dict[int, list[tuple[_Branch, int]]] = {}
    # Longest first: no branch has to be split later, and the longest sequence is never left for another.
    for number in sorted(range(len(sequences)), key=lambda number: -len(sequences[number])):
        trails[number] = root.grow(sequences[number])
    branches = _lay_out(root)
    size = branches[-1].start + len(branches[-1].ids)
    return Tree(
        ids=np.concatenate([branch.ids for branch in branches]),
        positions=np.concatenate([branch.depth + np.arange(len(branch.ids)) for branch in branches]),
        last=_last(branches, size),
        branches=tuple(Branch(Run(branch.start, branch.start + len(branch.ids)), branch.above()) for branch in branches),
        places=tuple(np.concatenate([branch.start + np.arange(count) for branch, count in trails[number]]) for number in range(len(sequences))),
    )


@dataclass(eq=False)
class _Branch:
    """What a sequence adds where it leaves another one."""

    ids: Ids
    parent: _Branch | None = None
    left: int = 0
    """Tokens of the parent branch that stand before it."""
    depth: int = 0
    """Tokens before it in all."""
    start: int = 0
    """Of the row; set when it is laid out."""
    children: dict[tuple[int, int], _Branch] = field(default_factory=dict)
    """By where they leave and their first token."""

    def grow(self, sequence: Ids) -> list[tuple[_Branch, int]]:
        """Take a sequence in. Returns which branches it goes along, and for how many of their tokens."""
        branch, done = self, 0
        trail = []
        while True:
            same = common(branch.ids, sequence[done:])
            trail.append((branch, same))
            done += same
            if done == len(sequence):
                return trail
            door = (same, int(sequence[done]))
            if door not in branch.children:
                branch.children[door] = _Branch(sequence[done:], branch, same, done)
            branch = branch.children[door]

    def above(self) -> tuple[Run, ...]:
        runs: list[Run] = []
        branch = self
        while branch.parent is not None:
            run = Run(branch.parent.start, branch.parent.start + branch.left)
            # Where a branch begins right behind what it leaves, both are one run.
            end = runs.pop().end if runs and run.end == runs[-1].start else run.end
            runs.append(Run(run.start, end))
            branch = branch.parent
        return tuple(run for run in runs if run.start < run.end)


def common(one: Ids, other: Ids) -> int:
    """How many tokens two sequences have in common at their beginning."""
    size = min(len(one), len(other))
    differ = np.flatnonzero(one[:size] != other[:size])
    return int(differ[0]) if len(differ) else size


def _lay_out(root: _Branch) -> list[_Branch]:
    """All branches in the order of the row; those that leave late come first."""
    order, size = [], 0
    open_ = [root]
    while open_:
        branch = open_.pop()
        branch.start, size = size, size + len(branch.ids)
        if branch.parent is not None:
            order.append(branch)
        open_ += sorted(branch.children.values(), key=lambda child: child.left)
    return order


def _last(branches: Sequence[_Branch], size: int) -> Ids:
    """Where the descendants of each token end."""
    last = np.empty(size, dtype=np.int64)
    ends: dict[_Branch, int] = {}
    for branch in reversed(branches):
        start = branch.start
        end = start + len(branch.ids)
        last[start:end] = end - 1
        # The later of the row leave earlier: what they add lies below fewer tokens.
        for child in sorted(branch.children.values(), key=lambda child: child.start):
            end = ends[child]
            last[start : start + child.left] = end - 1
        ends[branch] = end
    return last
