"""What a training run will take, before it takes it: tokens, updates, memory, time and disk.

Tokens are counted over the real batches of the first epoch. Memory and time are estimates, from two passes of the real model, forward
and backward, over the largest piece and a typical one; no weight is changed and nothing is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from steper_agent.records import KINDS, Example, Kind, Record
from training.disk import checkpoint_bytes, free, held, needed, size
from training.examples.dataset_folder import Dataset
from training.loop.losses import token_losses
from training.loop.order import Shuffled
from training.objective import sum_by_kind
from training.trees.pieces import Budget, Packing, Piece, cut_rows, cut_trees, row_piece, tree_piece
from training.trees.trie import tree_of

COPIES = 3
"""Of the logits, in float32, while their gradient is computed."""


@dataclass(frozen=True)
class Planned:
    """What is to be planned."""

    model: Any
    """On its device, with its adapter, prepared for trees where those are used."""
    data: Dataset
    packing: Packing
    reason: str
    """Why not trees; empty if so or if rows were asked for."""
    budget: Budget
    pad: int
    batch: int
    """Trajectories of an update."""
    micro: int
    """Of those, in one micro-batch of one process."""
    processes: int
    epochs: int
    max_steps: int
    save_every: int
    bf16: bool
    seed: int
    out: Path


class KindPlan(Record):
    examples: int
    tokens: int
    learned: int


class Plan(Record):
    """Sizes in bytes, of one process that holds all weights; times in seconds."""

    trajectories: int
    kinds: dict[Kind, KindPlan]
    as_rows: int
    """Tokens of one epoch that are computed, padding left out."""
    as_trees: int
    packing: Packing
    reason: str
    pieces: int
    largest: int
    """Tokens of the largest piece, padding included."""
    typical: int
    processes: int
    updates: int
    epochs: float
    updates_an_epoch: int
    checkpoints: int
    save_every: int
    device: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    """Of the largest piece, kept for its backward pass: counted, not guessed."""
    logits: int
    """Of the largest piece."""
    seconds_largest: float
    seconds_typical: float
    seconds: float
    """Of all passes."""
    checkpoint: int
    disk: int
    free: int
    """With what the run's own checkpoints hold now."""
    out: Path

    @property
    def memory(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits

    def __str__(self) -> str:
        return "\n".join([*self._data(), *self._work(), *self._machine()])

    def _data(self) -> list[str]:
        counted = [(kind, held) for kind, held in self.kinds.items()]
        total = [sum(getattr(held, name) for _, held in counted) for name in ("examples", "tokens", "learned")]
        rows = [(f"  {kind}", held.examples, held.tokens, held.learned) for kind, held in counted] + [("  in all", *total)]
        return [f"data      {self.trajectories:,} trajectories",
                *(f"{name:<18}{examples:>10,} examples {tokens:>14,} tokens {learned:>12,} of them learned"
                  for name, examples, tokens, learned in rows)]  # fmt: skip

    def _work(self) -> list[str]:
        why = f" ({self.reason})" if self.reason else ""
        return [
            f"packing   {self.packing}{why}",
            f"          an epoch is {self.as_rows:,} tokens as rows and {self.as_trees:,} as trees: "
            f"{self.as_rows / max(1, self.as_trees):.2f} times fewer",
            f"          {self.pieces:,} passes an epoch; the largest takes {self.largest:,} tokens, a typical one {self.typical:,}",
            f"updates   {self.updates:,}, which is {self.epochs:g} epochs of {self.updates_an_epoch:,}",
            f"saved     {self.checkpoints:,} checkpoints, one every {self.save_every:,} updates and one at the end; the last two are kept",
        ]

    def _machine(self) -> list[str]:
        parts = ", ".join(f"{name} {size(getattr(self, field))}" for name, field in (
            ("weights", "weights"), ("gradients", "gradients"), ("optimizer", "optimizer"), ("activations of the largest pass", "activations"),
            ("its logits", "logits")))  # fmt: skip
        enough = "enough" if self.disk <= self.free else "TOO LITTLE: the run will be refused"
        return [
            f"memory    about {size(self.memory)} on each process, an estimate: {parts}",
            "          weights, gradients and optimizer by their counts, unsharded; activations counted in a real pass; the libraries' "
            "own is left out",
            f"time      about {_clock(self.seconds)} on {self.processes} × {self.device}, an estimate: the largest pass took "
            f"{self.seconds_largest:.3g} s, a typical one {self.seconds_typical:.3g} s",
            "          forward and backward of all passes; the optimizer's strides, checkpoints and the waiting of processes are left out",
            f"disk      {size(self.disk)} for three checkpoints of {size(self.checkpoint)} at once and the student; {size(self.free)} are free "
            f"at {self.out}: {enough}",
        ]


def plan(run: Planned) -> Plan:
    """Count, and try the two passes."""
    order = Shuffled(run.data.question_ids, run.batch, run.seed)
    trees, rows = list[_Cut](), list[_Cut]()
    for examples in _micro_batches(run, order):
        trees += [_Cut(_tree_tokens(part), part) for part in cut_trees(examples, run.budget)]
        rows += [_Cut(len(part) * (len(part[0].ids) - 1), part) for part in cut_rows(examples, run.budget)]
    examples = [example for trajectory in run.data.trajectories for example in trajectory]
    cuts = sorted(trees if run.packing == "trees" else rows, key=lambda cut: cut.tokens)
    largest, typical = (_piece(run, cut.part) for cut in (cuts[-1], cuts[len(cuts) // 2]))
    tried = _try(run, largest, typical)
    updates = run.max_steps or run.epochs * order.updates
    trained = sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad)
    passes = sum(tried.seconds(cut.tokens) for cut in cuts) / run.processes
    return Plan(
        trajectories=len(run.data.trajectories), kinds=_kinds(examples), as_rows=sum(len(example.ids) - 1 for example in examples),
        as_trees=sum(cut.tokens for cut in trees), packing=run.packing, reason=run.reason, pieces=len(cuts), largest=largest.ids.numel(),
        typical=typical.ids.numel(), processes=run.processes, updates=updates, epochs=round(updates / order.updates, 2),
        updates_an_epoch=order.updates, checkpoints=math.ceil(updates / run.save_every), save_every=run.save_every, device=tried.device,
        weights=sum(weight.numel() * weight.element_size() for weight in run.model.parameters()), gradients=4 * trained, optimizer=8 * trained,
        activations=tried.kept, logits=COPIES * 4 * len(largest.sources) * tried.vocabulary, seconds_largest=tried.largest[1],
        seconds_typical=tried.typical[1], seconds=passes * updates / order.updates, checkpoint=checkpoint_bytes(trained),
        disk=needed(trained), free=free(run.out) + held(run.out), out=run.out,
    )  # fmt: skip


def _micro_batches(run: Planned, order: Shuffled) -> Iterable[list[Example]]:
    """Of the first epoch; those that hold nothing are left out."""
    rows = list(order)
    for start in range(0, len(rows), run.micro):
        examples = [example for row in rows[start : start + run.micro] if row != order.nothing for example in run.data.trajectories[row]]
        if examples:
            yield examples


def _kinds(examples: Sequence[Example]) -> dict[Kind, KindPlan]:
    made = {}
    for kind in KINDS:
        own = [example for example in examples if example.kind == kind]
        made[kind] = KindPlan(examples=len(own), tokens=sum(len(example.ids) for example in own), learned=sum(sum(example.learn) for example in own))
    return made


class _Cut(NamedTuple):
    tokens: int
    """Of the pass, padding included."""
    part: list[Example]


def _tree_tokens(part: Sequence[Example]) -> int:
    return len(tree_of([np.array(example.ids[:-1]) for example in part]).ids)


def _piece(run: Planned, part: Sequence[Example]) -> Piece:
    return tree_piece(part) if run.packing == "trees" else row_piece(part, run.pad)


@dataclass(frozen=True)
class _Tried:
    largest: tuple[int, float]
    """Tokens, seconds."""
    typical: tuple[int, float]
    kept: int
    vocabulary: int
    device: str

    def seconds(self, tokens: int) -> float:
        """On the line through both passes; where that makes no sense, by the larger one's pace."""
        (many, slow), (few, quick) = self.largest, self.typical
        if many > few and slow > quick:
            start = quick - few * (slow - quick) / (many - few)
            if start >= 0:
                return start + tokens * (slow - quick) / (many - few)
        return slow * tokens / many


def _try(run: Planned, largest: Piece, typical: Piece) -> _Tried:
    weights = {weight.data_ptr() for weight in run.model.parameters()}
    kept: dict[int, int] = {}
    logits = len(largest.sources) * run.model.config.get_text_config().vocab_size

    def keep(tensor: Any) -> Any:
        # What a library view shares is counted once; weights are there anyway, and logits have a line of their own.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.numel() != logits:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    run.model.train()
    _pass(run, typical)
    quick = _pass(run, typical)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        slow = _pass(run, largest)
    device = next(run.model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU with {torch.get_num_threads()} threads"
    return _Tried((largest.ids.numel(), slow), (typical.ids.numel(), quick), sum(kept.values()), run.model.config.get_text_config().vocab_size, name)


def _pass(run: Planned, piece: Piece) -> float:
    """Seconds of forward and backward; the gradients are thrown away."""
    device = next(run.model.parameters()).device
    moved = piece.to(device)
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16) if run.bf16 else nullcontext():
        losses, apart = token_losses(run.model, run.model.get_output_embeddings(), moved)
    (sum_by_kind(losses, moved.weights) + sum_by_kind(apart, moved.told.weights)).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken = time.perf_counter() - start
    run.model.zero_grad(set_to_none=True)
    return taken


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
