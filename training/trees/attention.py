"""Attention over a token tree, exactly that of its sequences one by one.

On a CPU, branch by branch: a branch's queries attend to its own keys causally and to each run above it in full, and the parts are
merged by their log-sum-exp, as ring attention does (Liu, Zaharia, Abbeel 2023). No mask is made and nothing is computed that is
not seen. On a GPU, FlexAttention with a block mask.

It is registered with transformers under NAME; a model that has it takes `tree=` beside its other inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from training.trees.trie import Branch, Run

NAME = "token_tree"

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Layout:
    """Who sees whom in a row. Moves with `to`, as tensors do."""

    def __init__(self, branches: tuple[Branch, ...], last: Tensor) -> None:
        self.branches = branches
        self.last = last
        self._mask: BlockMask | None = None

    def to(self, device: Any, **how: Any) -> Layout:
        return Layout(self.branches, self.last.to(device, **how))

    @property
    def mask(self) -> BlockMask:
        """For FlexAttention; made once for all layers."""
        if self._mask is None:
            size, last = len(self.last), self.last

            def sees(_row: Tensor, _head: Tensor, i: Tensor, j: Tensor) -> Tensor:
                return (j <= i) & (i <= last[j])

            self._mask = create_block_mask(sees, None, None, size, size, device=str(last.device))
        return self._mask


def tree_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
                   tree: Layout | None = None, scaling: float | None = None, **how: Any) -> tuple[Tensor, None]:  # fmt: skip
    """As transformers calls it: query (1, H, T, D), key and value (1, G, T, D) with G a divisor of H; gives (1, T, H, D). Without
    a tree it is transformers' own, over rows padded on the right."""
    if tree is None:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **how)
        return out, None
    # Under autocast the rotation leaves both in float32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if query.device.type == "cpu":
        groups = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(groups, dim=1) if groups > 1 else one for one in (key, value))
        out = _ByBranch.apply(query, key, value, tree.branches, scaling)  # type: ignore[no-untyped-call]
    else:
        out = _compiled()(query, key, value, block_mask=tree.mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
    return out.transpose(1, 2), None


AttentionInterface.register(NAME, tree_attention)


@cache
def _compiled() -> Any:
    # Rows have many lengths: one kernel for all of them.
    return torch.compile(flex_attention, dynamic=True)


class _ByBranch(torch.autograd.Function):
    """With the log-sum-exp of all that a query sees, and the output over all of it, the backward pass of every part is exact by
    itself: the probabilities are those of the whole."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, branches: tuple[Branch, ...], scale: float | None) -> Tensor:
        out = torch.empty_like(query)
        mass = query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
        for branch in branches:
            mine = _at(branch.own)
            parts = [_FORWARD(query[mine], key[seen], value[seen], 0.0, causal, scale=scale) for seen, causal in _parts(branch)]
            out[mine], mass[mine] = _merge(parts)
        ctx.save_for_backward(query, key, value, out, mass)
        ctx.branches, ctx.scale = branches, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, out, mass = ctx.saved_tensors
        # Many branches add to what stands above them: in half precision that would lose their small parts.
        grads = [torch.zeros_like(one, dtype=mass.dtype) for one in (query, key, value)]
        for branch in ctx.branches:
            mine = _at(branch.own)
            for seen, causal in _parts(branch):
                found = _BACKWARD(grad[mine], query[mine], key[seen], value[seen], out[mine], mass[mine], 0.0, causal, scale=ctx.scale)
                for whole, part, at in zip(grads, found, (mine, seen, seen), strict=True):
                    whole[at] += part
        of_query, of_key, of_value = (whole.to(query.dtype) for whole in grads)
        return of_query, of_key, of_value, None, None


def _at(run: Run) -> tuple[slice, slice, slice]:
    return slice(None), slice(None), slice(run.start, run.end)


def _parts(branch: Branch) -> Iterator[tuple[tuple[slice, slice, slice], bool]]:
    """What a branch's queries see, part by part, and whether causally."""
    yield _at(branch.own), True
    for run in branch.above:
        yield _at(run), False


def _merge(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Outputs (1, H, N, D) over parts of the keys, and their log-sum-exp (1, H, N), as over all of them."""
    if len(parts) == 1:
        return parts[0]
    masses = torch.stack([mass for _, mass in parts])
    mass = masses.logsumexp(0)
    shares = torch.exp(masses - mass).unsqueeze(-1)
    merged = torch.stack([share * out for share, (out, _) in zip(shares, parts, strict=True)]).sum(0)
    return merged, mass
