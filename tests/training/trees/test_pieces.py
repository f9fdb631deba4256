"""However a batch is cut and laid out, the loss and every gradient are those of its examples one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from steper_agent.records import KINDS, Example, Likely
from tests.training.samples import VOCABULARY, random_examples, small_model
from training.loop.losses import token_losses
from training.objective import divergence, sum_by_kind
from training.trees.pieces import (
    STRETCH,
    Budget,
    Packing,
    Piece,
    cut_rows,
    cut_trees,
    nothing,
    pieces_of,
    row_piece,
    tree_piece,
)
from training.trees.support import prepare_for_trees

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
        losses, apart = token_losses(model, model.get_output_embeddings(), piece)
        part = sum_by_kind(losses, piece.weights) + 0.5 * sum_by_kind(apart, piece.told.weights)
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
        kind = KINDS.index(example.kind)
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


def whole_divergence(model: Any, example: Example, teacher: Tensor) -> Tensor:
    """KL over the whole vocabulary, mean over the turn; `teacher` (N, V) log-probabilities."""
    logits = model(input_ids=torch.tensor(example.ids)[None]).logits[0, example.turn - 1 : example.turn - 1 + len(teacher)]
    return (teacher.exp() * (teacher - logits.log_softmax(-1))).sum(-1).mean()


def with_teacher(example: Example, top: int, seed: int) -> tuple[Example, Tensor]:
    """The example with what a random teacher holds likely in the places of its last tokens."""
    turn = example.learn.index(1)
    teacher = torch.randn(len(example.ids) - turn, VOCABULARY, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(-1)
    best = teacher.topk(top)
    likely = Likely(model="t", tokens=example.ids[turn:], logprobs=(0.0,) * len(teacher), top_ids=best.indices.tolist(), top_logprobs=best.values.tolist())
    return example.model_copy(update={"turn": turn, "likely": likely}), teacher


@pytest.mark.parametrize("packing", ["rows", "trees"])
def test_what_a_teacher_tells_of_all_tokens_is_the_whole_divergence_and_of_some_never_more(packing: Packing) -> None:
    model = small_model("llama")
    made = [with_teacher(example, VOCABULARY - 1, seed) for seed, example in enumerate(random_examples(2))]
    expected = torch.zeros(3)
    for example, teacher in made:
        expected[KINDS.index(example.kind)] += whole_divergence(model, example, teacher).detach()
    assert packing == "rows" or prepare_for_trees(model, longest=200) == ""

    def sums(examples: list[Example]) -> Tensor:
        pieces = pieces_of(examples, packing, Budget(tokens=70))
        return torch.stack([sum_by_kind(token_losses(model, None, piece)[1], piece.told.weights) for piece in pieces]).sum(0).detach()

    torch.testing.assert_close(sums([example for example, _ in made]), expected, rtol=1e-4, atol=1e-4)
    few = sums([with_teacher(example, 5, seed)[0] for seed, example in enumerate(random_examples(2))])
    assert (few <= expected + 1e-4).all()
    assert (few > 0).all()


def test_trees_and_rows_learn_alike_from_a_teacher_that_tells_different_numbers_of_tokens() -> None:
    model = small_model("qwen2")
    examples = [with_teacher(example, 1 + seed % 4, seed)[0] if seed % 3 else example for seed, example in enumerate(random_examples(5, count=12))]
    scored = examples[1].model_copy(update={"learn": (0,) * len(examples[1].ids)})
    examples.append(scored)
    expected = found(model, [row_piece([example], pad=0) for example in examples])
    assert prepare_for_trees(model, longest=200) == ""
    assert_same(found(model, pieces_of(examples, "trees", Budget(tokens=90))), expected)


def test_a_student_that_gives_the_teacher_s_chances_is_not_apart() -> None:
    teacher = torch.randn(6, 9).log_softmax(-1)
    assert divergence(teacher[:, :3], teacher[:, 3:].logsumexp(-1), teacher[:, :3]).abs().max() < 1e-6
    other = torch.randn(6, 9).log_softmax(-1)
    assert (divergence(other[:, :3], other[:, 3:].logsumexp(-1), teacher[:, :3]) > 0).all()


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
    few, full = (token_losses(model, head, piece)[0] for head in (model.get_output_embeddings(), None))
    torch.testing.assert_close(few, full)


@pytest.mark.parametrize("seed", range(5))
def test_parts_hold_every_example_once_and_stay_within_the_budget(seed: int) -> None:
    examples = random_examples(seed, count=40)
    budget = Budget(tokens=150, learned=30)
    for cut in (cut_rows, cut_trees):
        parts = cut(examples, budget)
        assert sorted(map(id, examples)) == sorted(id(example) for part in parts for example in part)
    for part in cut_trees(examples, budget):
        piece = tree_piece(part)
        assert len(part) == 1 or (piece.ids.numel() <= 150 * STRETCH and len(piece.targets) <= 30)
    for part in cut_rows(examples, budget):
        piece = row_piece(part, pad=0)
        assert len(part) == 1 or (piece.ids.numel() <= 150 and len(piece.targets) <= 30)


def test_trees_share_what_the_steps_of_a_trajectory_share() -> None:
    """Two parts of one trajectory's steps cost more tokens than the whole; so no cut is made that need not be."""
    long = tuple(range(2, 42))
    steps = [Example(trajectory=0, kind="expansion", step=1, ids=(*long[:end], 43, 44), learn=(0,) * end + (1, 1), turn=end) for end in (10, 20, 30, 40)]
    for tokens in (60, 25):
        (part,) = cut_trees(steps, Budget(tokens=tokens))
        assert tree_piece(part).ids.numel() == 40 + 4
    assert len(cut_trees(steps, Budget(tokens=10))) > 1, "but memory has an end"


@pytest.mark.parametrize("method", ["rows", "trees"])
def test_examples_weigh_alike_whatever_their_length(method: Packing) -> None:
    for piece in pieces_of(random_examples(7), method, Budget()):
        assert float(piece.weights.sum()) == pytest.approx(piece.examples, rel=1e-5)


@pytest.mark.parametrize("packing", ["rows", "trees"])
def test_nothing_adds_nothing_and_reaches_every_weight(packing: str) -> None:
    model = small_model("llama")
    assert packing == "rows" or prepare_for_trees(model, longest=100) == ""
    losses, apart = token_losses(model, model.get_output_embeddings(), nothing())
    (sum_by_kind(losses, nothing().weights) + sum_by_kind(apart, nothing().told.weights)).sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())
