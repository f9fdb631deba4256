"""However a batch is cut and laid out, the loss and every gradient are those of its examples one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from steper_agent.records import Example
from tests.training.examples import random_examples, small_model
from training.objective import sum_by_kind
from training.pieces import Budget, Packing, Piece, cut_rows, cut_trees, nothing, pieces_of, row_piece, tree_piece
from training.trainer import token_losses
from training.tree_support import prepare_for_trees

KIND_WEIGHTS = torch.tensor([0.7, 1.3, 2.1])
ARCHITECTURES = ["llama", "qwen2", "qwen3", "mistral", "gemma"]
Found = tuple[Tensor, Tensor]
"""Sums by kind (3,), and the gradient of all trained weights."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models this small, several threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def found(model: Any, pieces: list[Piece]) -> Found:
    model.zero_grad()
    sums = torch.zeros(3)
    for piece in pieces:
        part = sum_by_kind(token_losses(model, model.get_output_embeddings(), piece), piece.weights)
        (part * KIND_WEIGHTS.to(part.dtype)).sum().backward()
        sums = sums + part.detach()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    return sums, torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def one_by_one(model: Any, examples: list[Example]) -> Found:
    """By transformers' own loss: labels, shifted by the model, everything else ignored. Its mean is an example's ℓ."""
    model.zero_grad()
    sums = torch.zeros(3)
    for example in examples:
        ids = torch.tensor(example.ids)[None]
        labels = torch.where(torch.tensor(example.learn)[None] == 1, ids, -100)
        loss = model(input_ids=ids, labels=labels).loss
        kind = ["initialization", "expansion", "aggregation"].index(example.kind)
        (loss * KIND_WEIGHTS[kind]).backward()
        sums[kind] += loss.detach()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    return sums, torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def assert_same(ours: Found, theirs: Found, most: float = 1e-5) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).norm() / other.norm()) < most


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_tree_gives_the_loss_and_the_gradients_of_its_rows(kind: str, method: str, checkpointing: bool) -> None:
    model = small_model(kind)
    examples = random_examples(seed=len(kind))
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if method == "lora":
            model.enable_input_require_grads()
    expected = one_by_one(model, examples)
    assert_same(found(model, [row_piece(examples, pad=0)]), expected)
    assert prepare_for_trees(model, longest=200) == ""
    assert_same(found(model, [tree_piece(examples)]), expected)


@pytest.mark.parametrize("packing", ["trees", "rows"])
@pytest.mark.parametrize("budget", [Budget(), Budget(tokens=60), Budget(learned=7), Budget(tokens=1)])
def test_any_cut_gives_the_same_loss_and_gradients(packing: Packing, budget: Budget) -> None:
    model = small_model("qwen2")
    for seed in range(3):
        examples = random_examples(seed, count=14)
        model.set_attn_implementation("sdpa")
        expected = one_by_one(model, examples)
        if packing == "trees":
            assert prepare_for_trees(model, longest=500) == ""
        assert_same(found(model, pieces_of(examples, packing, budget)), expected)


def test_in_half_precision_a_tree_is_as_near_as_rows_are() -> None:
    model, examples = small_model("llama"), random_examples(4)
    expected = one_by_one(model, examples)
    with torch.autocast("cpu", torch.bfloat16):
        rows = found(model, [row_piece(examples, pad=0)])
        assert prepare_for_trees(model, longest=200) == ""
        trees = found(model, [tree_piece(examples)])
    for part in (0, 1):
        off = [float((one[part] - expected[part]).norm() / expected[part].norm()) for one in (rows, trees)]
        assert off[1] < 2 * off[0] + 1e-3


def test_logits_where_they_are_needed_are_the_full_ones() -> None:
    model, piece = small_model("llama"), row_piece(random_examples(1), pad=0)
    torch.testing.assert_close(token_losses(model, model.get_output_embeddings(), piece), token_losses(model, None, piece))


@pytest.mark.parametrize("seed", range(5))
def test_parts_hold_every_example_once_and_stay_within_the_budget(seed: int) -> None:
    examples = random_examples(seed, count=40)
    budget = Budget(tokens=150, learned=30)
    for cut in (cut_rows, cut_trees):
        parts = cut(examples, budget)
        assert sorted(map(id, examples)) == sorted(id(example) for part in parts for example in part)
    for part in cut_trees(examples, budget):
        piece = tree_piece(part)
        assert len(part) == 1 or (piece.ids.numel() <= 150 and len(piece.targets) <= 30)
    for part in cut_rows(examples, budget):
        piece = row_piece(part, pad=0)
        assert len(part) == 1 or (piece.ids.numel() <= 150 and len(piece.targets) <= 30)


def test_trees_share_what_the_steps_of_a_trajectory_share() -> None:
    """Two parts of one trajectory's steps cost more tokens than the whole; so no cut is made that need not be."""
    long = tuple(range(2, 42))
    steps = [Example(trajectory=0, kind="expansion", step=1, ids=(*long[:end], 43, 44), learn=(0,) * end + (1, 1), turn=end) for end in (10, 20, 30, 40)]
    parts = cut_trees(steps, Budget(tokens=60))
    assert len(parts) == 1
    assert tree_piece(parts[0]).ids.numel() == 40 + 4


@pytest.mark.parametrize("method", ["rows", "trees"])
def test_examples_weigh_alike_whatever_their_length(method: Packing) -> None:
    for piece in pieces_of(random_examples(7), method, Budget()):
        assert float(piece.weights.sum()) == pytest.approx(piece.examples, rel=1e-5)


def test_nothing_adds_nothing_and_reaches_every_weight() -> None:
    model = small_model("llama")
    model.zero_grad()
    losses = token_losses(model, model.get_output_embeddings(), nothing())
    sum_by_kind(losses, nothing().weights).sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())
