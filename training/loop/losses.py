"""What a model makes of a piece: the loss of every learned token, with logits computed only where something is learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.objective import divergence
from training.trees.pieces import Piece


def token_losses(model: nn.Module, head: nn.Module | None, piece: Piece) -> tuple[Tensor, Tensor]:
    """(P,) cross entropy of every learned token of a piece, and (R,) the divergence wherever a teacher told its chances."""
    given: dict[str, Any] = {"input_ids": piece.ids, "use_cache": False}
    if piece.tree is not None:
        given |= {"position_ids": piece.positions, "tree": piece.tree}
    if head is None:
        logits = model(**given).logits.flatten(0, 1)[piece.sources]
    else:
        with _only_at(head, piece.sources):
            logits = model(**given).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    mass, told = logits.logsumexp(-1), piece.told
    losses = mass[piece.source] - logits[piece.source, piece.targets]
    return losses, divergence(*_chances(logits, mass, told.source, told.ids), told.logprobs.to(logits))


def _chances(logits: Tensor, mass: Tensor, source: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(R, K) log-probabilities of some tokens, and (R,) that of all others together."""
    chosen = logits[source[:, None], ids] - mass[source, None]
    # Counted from what is left over, which in float32 may be nothing.
    others = logits[source].scatter(1, ids, -torch.inf).logsumexp(-1) - mass[source]
    return chosen, others.clamp(min=-1e4)


@contextmanager
def _only_at(head: nn.Module, sources: Tensor) -> Iterator[None]:
    """Compute logits for some positions only: for all of them they cost more than the rest of a small model."""
    handle = head.register_forward_pre_hook(lambda _module, given: (given[0].flatten(0, 1)[sources],))
    try:
        yield
    finally:
        handle.remove()
