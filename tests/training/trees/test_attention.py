"""Attention by branches is attention with the mask of the tree, and so are its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from tests.training.samples import random_examples
from training.trees.attention import Layout, tree_attention
from training.trees.trie import tree_of


def layout(seed: int) -> Layout:
    tree = tree_of([np.array(example.ids) for example in random_examples(seed)])
    return Layout(tree.branches, torch.from_numpy(tree.last))


def inputs(size: int, dtype: torch.dtype, groups: int) -> list[Tensor]:
    """Query, key and value as a model has them: heads in front of tokens, tokens in front of heads in memory."""
    generator = torch.Generator().manual_seed(size)
    return [torch.randn(1, size, heads, 8, generator=generator).to(dtype).transpose(1, 2).requires_grad_() for heads in (4, groups, groups)]


def by_mask(given: list[Tensor], tree: Layout) -> Tensor:
    """(1, T, H, D), with the rule of training.trees.trie as a dense mask."""
    i, j = torch.meshgrid(*[torch.arange(len(tree.last), device=tree.last.device)] * 2, indexing="ij")
    mask = (j <= i) & (i <= tree.last[j])
    return nn.functional.scaled_dot_product_attention(*given, attn_mask=mask, enable_gqa=True).transpose(1, 2)


def difference(one: Tensor, other: Tensor, given: list[Tensor]) -> list[float]:
    """Of the outputs and of every input's gradient, relative."""
    weights = torch.linspace(-1, 1, one.numel()).reshape(one.shape).to(one)
    pairs = [(one, other), *zip(torch.autograd.grad(one, given, weights), torch.autograd.grad(other, given, weights), strict=True)]
    return [float((a - b).detach().norm() / b.detach().norm()) for a, b in pairs]


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_by_branches_is_by_mask(dtype: torch.dtype, most: float, groups: int) -> None:
    for seed in range(6):
        tree = layout(seed)
        given = inputs(len(tree.last), dtype, groups)
        ours = tree_attention(nn.Module(), *given, None, tree=tree)[0]
        assert max(difference(ours, by_mask(given, tree), given)) < most


def test_the_block_mask_of_a_gpu_is_the_same_rule() -> None:
    """FlexAttention has no backward pass on a CPU; what it computes there says what it would take the gradients of."""
    tree = layout(3)
    given = [one.detach() for one in inputs(len(tree.last), torch.float32, 2)]
    with pytest.warns(UserWarning, match="flex_attention called without torch.compile"):
        ours = flex_attention(*given, block_mask=tree.mask, enable_gqa=True)
    assert isinstance(ours, Tensor)
    torch.testing.assert_close(ours.transpose(1, 2), by_mask(given, tree))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention's backward pass needs a GPU")
def test_on_a_gpu_flex_attention_is_by_mask() -> None:
    tree = layout(3).to("cuda")
    given = [one.detach().cuda().requires_grad_() for one in inputs(len(tree.last), torch.float32, 2)]
    ours = tree_attention(nn.Module(), *given, None, tree=tree)[0]
    assert max(difference(ours, by_mask(given, tree), given)) < 1e-3
