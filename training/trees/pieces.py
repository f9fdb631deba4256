"""What one forward and backward pass takes: examples as a row each, or as a token tree in which what they share stands once.

Both say the same of the objective: every learned token with the weight that it has in its kind's sum. So whatever cuts and lays
out a batch changes memory and time, and neither the loss nor a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steper_agent.records import KINDS, Example
from training.trees.attention import Layout
from training.trees.trie import common, tree_of

Packing = Literal["trees", "rows"]
Ints = NDArray[np.int64]

TOKENS = 4_096
"""Of one pass, padding included: bounds memory."""
STRETCH = 4
"""How many times that a tree may have where the next example has more than half of its tokens in it already: cut there, both parts
would compute that half."""
FEW_TOKENS = 2_048
"""Below this a piece takes shorter rows too: starting another pass would cost more than the padding."""
LOGITS = 2**28
"""Most logits of one pass: 1 GiB in float32."""


@dataclass(frozen=True)
class Told:
    """A teacher's log-probabilities at R places of a piece, the K likeliest at most; R = 0 without any."""

    source: Tensor
    """(R,) which of the piece's sources."""
    ids: Tensor
    """(R, K) tokens; where the teacher told fewer, one of them again."""
    logprobs: Tensor
    """(R, K) the teacher's; -inf where it told fewer."""
    weights: Tensor
    """(R, 3) of each place's divergence in the sum of every kind (KINDS)."""

    def to(self, device: Any, **how: Any) -> Told:
        return Told(*(value.to(device, **how) for value in vars(self).values()))


@dataclass(frozen=True)
class Piece:
    """Moves with `to`, as tensors do."""

    ids: Tensor
    """(B, T) tokens; the last one of a sequence is only a target."""
    sources: Tensor
    """(U,) places in the flattened ids whose next token is learned; a place has several where a tree branches."""
    source: Tensor
    """(P,) which of the sources a target follows."""
    targets: Tensor
    """(P,) tokens to learn."""
    weights: Tensor
    """(P, 3) of each target's cross entropy in the sum of every kind (KINDS): one by an example's count of learned tokens, added
    over the examples that share the target."""
    examples: int
    told: Told
    positions: Tensor | None = None
    """(1, T) of a tree's tokens in their own sequences."""
    tree: Layout | None = None

    def to(self, device: Any, **how: Any) -> Piece:
        moved = {name: value.to(device, **how) for name, value in vars(self).items() if hasattr(value, "to")}
        return replace(self, **moved)


@dataclass(frozen=True)
class Budget:
    """Of a piece. An example that needs more is a piece by itself."""

    tokens: int = TOKENS
    learned: int = LOGITS
    """Learned tokens, each of which costs a row of logits."""


def pieces_of(examples: Sequence[Example], packing: Packing, budget: Budget, pad: int = 0) -> list[Piece]:
    """All of a micro-batch."""
    if packing == "trees":
        return [tree_piece(part) for part in cut_trees(examples, budget)]
    return [row_piece(part, pad) for part in cut_rows(examples, budget)]


def nothing() -> Piece:
    """A pass that adds nothing: a rank with fewer pieces makes it, since all ranks have to meet as often."""
    none = torch.zeros(0, dtype=torch.long)
    return Piece(torch.zeros(1, 1, dtype=torch.long), none, none, none, torch.zeros(0, len(KINDS)), 0, _told([], []))


def row_piece(examples: Sequence[Example], pad: int) -> Piece:
    """A row for each, padded on the right: no mask is needed."""
    longest = max(len(example.ids) for example in examples) - 1
    ids = torch.full((len(examples), longest), pad)
    for number, example in enumerate(examples):
        ids[number, : len(example.ids) - 1] = torch.tensor(example.ids[:-1])
    places = [number * longest + np.arange(len(example.ids) - 1) for number, example in enumerate(examples)]
    return _piece(ids, examples, places)


def tree_piece(examples: Sequence[Example]) -> Piece:
    """One row for all."""
    tree = tree_of([np.array(example.ids[:-1]) for example in examples])
    ids, positions, last = (torch.from_numpy(one) for one in (tree.ids, tree.positions, tree.last))
    return _piece(ids[None], examples, tree.places, positions=positions[None], tree=Layout(tree.branches, last))


def _piece(ids: Tensor, examples: Sequence[Example], places: Sequence[Ints], **tree: Any) -> Piece:
    """From where every token but the last of each example stands."""
    pairs, weights = _learned(examples, places)
    told = _told(examples, places)
    sources, source = np.unique(np.concatenate([pairs[0], told.source.numpy()]), return_inverse=True)
    learned = pairs.shape[1]
    return Piece(ids, torch.from_numpy(sources), torch.from_numpy(source[:learned]), torch.from_numpy(pairs[1]), torch.from_numpy(weights),
                 len(examples), replace(told, source=torch.from_numpy(source[learned:])), **tree)  # fmt: skip


def _learned(examples: Sequence[Example], places: Sequence[Ints]) -> tuple[Ints, NDArray[np.float32]]:
    """(2, P) each target's place and token, and (P, 3) its weights."""
    at, follows, kinds, shares = [], [], [], []
    for example, place in zip(examples, places, strict=True):
        learned = np.flatnonzero(example.learn[1:])
        at.append(place[learned])
        follows.append(np.array(example.ids)[1 + learned])
        kinds.append(np.full(len(learned), KINDS.index(example.kind)))
        shares.append(np.full(len(learned), 1 / max(1, len(learned))))
    pairs, which = np.unique(np.stack([np.concatenate(at), np.concatenate(follows)]), axis=1, return_inverse=True)
    weights = np.zeros((pairs.shape[1], len(KINDS)), dtype=np.float32)
    np.add.at(weights, (which.ravel(), np.concatenate(kinds)), np.concatenate(shares))
    return pairs, weights


def _told(examples: Sequence[Example], places: Sequence[Ints]) -> Told:
    """With places of the row as `source`."""
    told = [(example, example.likely, place) for example, place in zip(examples, places, strict=True) if example.likely]
    most = max((len(top) for _, likely, _ in told for top in likely.top_ids), default=1)
    count = sum(len(likely.tokens) for _, likely, _ in told)
    source, ids = np.zeros(count, dtype=np.int64), np.zeros((count, most), dtype=np.int64)
    logprobs, weights = np.full((count, most), -np.inf, dtype=np.float32), np.zeros((count, len(KINDS)), dtype=np.float32)
    row = 0
    for example, likely, place in told:
        size = len(likely.tokens)
        source[row : row + size] = place[example.turn - 1 : example.turn - 1 + size]
        weights[row : row + size, KINDS.index(example.kind)] = 1 / size
        for top_ids, top_logprobs in zip(likely.top_ids, likely.top_logprobs, strict=True):
            ids[row], logprobs[row, : len(top_ids)] = [*top_ids, *top_ids[:1] * (most - len(top_ids))], top_logprobs
            row += 1
    return Told(*(torch.from_numpy(one) for one in (source, ids, logprobs, weights)))


def cut_rows(examples: Sequence[Example], budget: Budget) -> list[list[Example]]:
    """Parts whose rows are of like length, longest first."""
    learned = _counts(examples)

    def full(part: list[Example], example: Example) -> bool:
        longest = len(part[0].ids)
        is_much_shorter = len(example.ids) < 0.75 * longest and len(part) * longest >= FEW_TOKENS
        return is_much_shorter or (len(part) + 1) * longest > budget.tokens or learned(part, example) > budget.learned

    return list(_cut(sorted(examples, key=lambda example: -len(example.ids)), full))


def cut_trees(examples: Sequence[Example], budget: Budget) -> list[list[Example]]:
    """Parts that share as much as they can: in the order of their tokens, neighbours have the most in common."""
    order = sorted(examples, key=lambda example: np.array(example.ids, dtype=">u4").tobytes())
    shared = {id(example): common(np.array(before.ids), np.array(example.ids)) for before, example in pairwise(order)}
    learned = _counts(examples)

    def full(part: list[Example], example: Example) -> bool:
        tokens = len(part[0].ids) + sum(len(other.ids) - shared[id(other)] for other in [*part[1:], example])
        most = budget.tokens * (STRETCH if 2 * shared[id(example)] > len(example.ids) else 1)
        return tokens > most or learned(part, example) > budget.learned

    return list(_cut(order, full))


def _counts(examples: Sequence[Example]) -> Callable[[list[Example], Example], int]:
    """How many logits a part and one more example ask for."""
    counts = {id(example): sum(example.learn) + len(example.likely.tokens if example.likely else ()) for example in examples}
    return lambda part, example: sum(counts[id(other)] for other in [*part, example])


def _cut(examples: Sequence[Example], full: Callable[[list[Example], Example], bool]) -> Iterator[list[Example]]:
    part: list[Example] = []
    for example in examples:
        if part and full(part, example):
            yield part
            part = []
        part.append(example)
    if part:
        yield part
