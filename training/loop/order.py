"""In which order trajectories are trained on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler


class Shuffled(Sampler[int]):
    """A fresh order every epoch that depends on the seed and the epoch only, so that a resumed run goes on in it.

    Trajectories of one question follow each other, for they share its tokens. The last batch is filled up with what stands behind
    the last trajectory, an item that holds nothing: so the ranks never have to see a trajectory twice to come out even.
    """

    def __init__(self, groups: Sequence[object], batch: int, seed: int) -> None:
        """`groups`: the question of every trajectory. `batch`: trajectories of an update, over all ranks."""
        self.groups: dict[object, list[int]] = {}
        for number, group in enumerate(groups):
            self.groups.setdefault(group, []).append(number)
        self.nothing = len(groups)
        self.size = -(-len(groups) // batch) * batch
        self.batch, self.seed, self.epoch = batch, seed, 0

    @property
    def updates(self) -> int:
        """Of one epoch."""
        return self.size // self.batch

    def update(self, number: int) -> list[int]:
        """What the update of that number, counted from 0 over all epochs, holds; those that hold nothing are left out."""
        self.set_epoch(number // self.updates)
        start = number % self.updates * self.batch
        return [row for row in list(self)[start : start + self.batch] if row != self.nothing]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        groups = list(self.groups.values())
        random.Random(f"{self.seed}:{self.epoch}").shuffle(groups)
        order = [number for group in groups for number in group]
        return iter(order + [self.nothing] * (self.size - len(order)))
