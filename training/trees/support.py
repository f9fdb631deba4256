"""Whether a model's loss over a token tree is exactly that of its rows: read from its settings, then tried."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.trees.attention import NAME, Layout, tree_attention
from training.trees.trie import tree_of

TOLERANCE = 1e-3
"""Largest relative difference of the logits of a right model, in float32 by far; others compute another function."""
HALF_TOLERANCE = 5e-2


def prepare_for_trees(model: Any, longest: int, device: str = "cpu") -> str:
    """Have a model attend over token trees, or say in words why it cannot; it is then left as it was.

    Args:
        model: A causal language model of transformers, with or without an adapter.
        longest: Tokens of the longest sequence it will see.
        device: Where it will be trained, though it may not be there yet.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    before = config._attn_implementation
    reason = _stated(base, config, longest) or _fault_on(device)
    if reason:
        return reason
    was_training = model.training
    # Dropout and its like are nothing until a model trains.
    model.train()
    try:
        # What is drawn here must not move the student's first weights.
        with torch.random.fork_rng(devices=[]):
            reason = _tried(model, base)
    finally:
        model.train(was_training)
    if reason:
        base.set_attn_implementation(before)
    return reason


def _tried(model: Any, base: Any) -> str:
    """What is wrong with the logits over a small tree."""
    name, rows, again = type(base).__name__, _one_by_one(model), _one_by_one(model)
    tolerance = TOLERANCE if rows.dtype in (torch.float32, torch.float64) else HALF_TOLERANCE
    if _apart(rows, again) > tolerance:
        return f"{name} trains with dropout, or something else at random"
    try:
        base.set_attn_implementation(NAME)
        off = _apart(rows, _as_a_tree(model))
    except (ValueError, TypeError, RuntimeError) as refused:
        return f"{name} does not take another attention function ({refused})"
    return f"{name} gives other logits over a tree (relative difference {off:.1e})" if off > tolerance else ""


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm())


def _fault_on(device: str) -> str:
    """What is wrong with the attention of that device, which is not the CPU's."""
    if device == "cpu":
        return ""
    try:
        here, there = _attended("cpu"), _attended(device).cpu()
    except Exception as refused:
        # A compiler, a driver or the memory: whatever it is, rows need none of it.
        return f"FlexAttention does not run on {device} ({type(refused).__name__}: {refused})"
    off = _apart(here, there)
    return "" if off < TOLERANCE * 10 else f"FlexAttention on {device} computes something else (relative difference {off:.1e})"


def _attended(device: str) -> Tensor:
    """A small tree's attention and the gradients of its inputs, in one row."""
    tree = tree_of(_SAMPLE)
    layout = Layout(tree.branches, torch.tensor(tree.last)).to(device)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, len(tree.ids), 16, generator=generator).to(device).requires_grad_() for _ in range(3))
    out, _ = tree_attention(nn.Module(), query, key, value, None, tree=layout)
    return torch.cat([one.detach().flatten() for one in (out, *torch.autograd.grad(out.square().sum(), (query, key, value)))])


def _stated(base: nn.Module, config: Any, longest: int) -> str:
    """What the settings alone tell."""
    name = type(base).__name__
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = set(getattr(config, "layer_types", None) or (["sliding_attention"] if window else ["full_attention"]))
    others = kinds - {"full_attention", "sliding_attention"}
    if others:
        return f"{name} has layers of another kind: {', '.join(sorted(others))}"
    if "sliding_attention" in kinds and window and window < longest:
        return f"{name} attends to the last {window} tokens only, and the longest example has {longest}"
    if getattr(config, "attn_logit_softcapping", None):
        return f"{name} caps its attention scores"
    return ""


_SAMPLE = [np.array(ids) for ids in ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 6, 2, 4], [1, 2, 3, 6, 5, 4, 3], [1, 2, 9, 4])]
"""Small ids, which every vocabulary has; branches of branches."""


@torch.no_grad()
def _one_by_one(model: Any) -> Tensor:
    device = next(model.parameters()).device
    return torch.cat([model(input_ids=torch.tensor(ids, device=device)[None], use_cache=False).logits[0] for ids in _SAMPLE])


@torch.no_grad()
def _as_a_tree(model: Any) -> Tensor:
    device = next(model.parameters()).device
    tree = tree_of(_SAMPLE)
    ids, positions = (torch.tensor(one, device=device)[None] for one in (tree.ids, tree.positions))
    layout = Layout(tree.branches, torch.tensor(tree.last, device=device))
    logits = model(input_ids=ids, position_ids=positions, tree=layout, use_cache=False).logits[0]
    return torch.cat([logits[places] for places in tree.places])
