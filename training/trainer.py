"""The Hugging Face Trainer with StepER's objective: one item is a trajectory, and σ is learned beside the student.

What is ours: the loss and its divisor, token trees, logits only where something is learned, σ in its own parameter group and in
every checkpoint, and a curve line an update. The rest is the Trainer's.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from steper_agent.durable import write_atomic
from steper_agent.records import KINDS, Example
from training.curve import Curve, CurvePoint
from training.dataset import Dataset
from training.objective import Whole, by_kind, closed_form, combine, parse_weighting, sum_by_kind
from training.pieces import LOGITS, TOKENS, Budget, Packing, Piece, nothing, pieces_of

Batch = dict[str, Any]

SIGMA_BETAS = (0.9, 0.99)
"""Adam's memory for σ, shorter than usual: the losses it follows fall within tens of updates."""
MARK = "sigma.json"
"""Written last into a checkpoint: one without it was cut short by a crash."""


def collate(trajectories: Sequence[Sequence[Example]], lay: Callable[[list[Example]], list[Piece]]) -> Batch:
    """The pieces of some trajectories and, for the divisor, what they hold: kinds (3,), trajectories (1,), tokens (1,)."""
    examples = [example for examples in trajectories for example in examples]
    kinds = torch.tensor([KINDS.index(example.kind) for example in examples])
    return {"pieces": lay(examples), "kinds": torch.bincount(kinds, minlength=len(KINDS)),
            "trajectories": torch.tensor([len(trajectories)]), "tokens": torch.tensor([sum(len(e.ids) for e in examples)])}


def token_losses(model: nn.Module, head: nn.Module | None, piece: Piece) -> Tensor:
    """(P,) cross entropy of every learned token of a piece."""
    given: dict[str, Any] = {"input_ids": piece.ids, "use_cache": False}
    if piece.tree is not None:
        given |= {"position_ids": piece.positions, "tree": piece.tree}
    if head is None:
        logits = model(**given).logits.flatten(0, 1)[piece.sources]
    else:
        with _only_at(head, piece.sources):
            logits = model(**given).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses: Tensor = logits.logsumexp(-1)[piece.source] - logits[piece.source, piece.targets]
    return losses


@contextmanager
def _only_at(head: nn.Module, sources: Tensor) -> Iterator[None]:
    """Compute logits for some positions only: for all of them they cost more than the rest of a small model."""
    handle = head.register_forward_pre_hook(lambda _module, given: (given[0].flatten(0, 1)[sources],))
    try:
        yield
    finally:
        handle.remove()


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
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        groups = list(self.groups.values())
        random.Random(f"{self.seed}:{self.epoch}").shuffle(groups)
        order = [number for group in groups for number in group]
        return iter(order + [self.nothing] * (self.size - len(order)))


@dataclass(frozen=True)
class Objective:
    """What is minimized, and how it is computed."""

    weighting: str
    """As `parse_weighting` reads it."""
    sigma_rate: float
    """Learning rate of log σ²."""
    packing: Packing
    """Trees only with a model that was prepared for them."""
    pad: int
    tokens: int = TOKENS
    """Most of one piece."""


class StepERTrainer(Trainer):
    """Trains on trajectories; every argument not named here is the Trainer's own."""

    lr_scheduler: Any

    def __init__(self, model: nn.Module, args: TrainingArguments, data: Dataset, objective: Objective, curve: Curve) -> None:
        budget = Budget(objective.tokens, max(1, LOGITS // _vocabulary(model)))
        super().__init__(model, args, train_dataset=[*data.trajectories, []],
                         data_collator=lambda items: collate(items, partial(pieces_of, packing=objective.packing, budget=budget, pad=objective.pad)))
        self.remove_callback(PrinterCallback)
        self.add_callback(_Updates(self))
        self.data = data
        self.weighting, self.sigma_rate = parse_weighting(objective.weighting), objective.sigma_rate
        self.curve = curve
        self.on_update: Callable[[CurvePoint], None] = lambda _point: None
        self.log_variance = nn.Parameter(torch.zeros(len(KINDS), device=args.device), objective.weighting == "learned")
        self.seen = torch.zeros(len(KINDS), device=args.device)
        self.sums = torch.zeros(len(KINDS), device=args.device)
        self.whole = Whole(0, (0, 0, 0))
        self.tokens, self.seconds, self.clock = 0, 0.0, time.monotonic()

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ARG002
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return Shuffled(self.data.question_ids, batch, self.args.seed)

    def get_batch_samples(self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device) -> Any:
        """The micro-batches of one update, and what they hold together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        held = torch.zeros(2 + len(KINDS), device=device)
        for batch in batches:
            held += torch.cat([batch["trajectories"], batch["tokens"], batch["kinds"]]).to(device)
        if self.accelerator.num_processes > 1:
            held = self.accelerator.reduce(held, "sum")
        trajectories, tokens, *kinds_held = (int(count) for count in held.tolist())
        self.whole = Whole(trajectories, (kinds_held[0], kinds_held[1], kinds_held[2]))
        self.tokens += tokens
        self.sums.zero_()
        # The Trainer zeroes only the model's gradients.
        self.log_variance.grad = None
        return batches, self.whole

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward, piece by piece; only the last piece lets the ranks meet."""
        model.train()
        pieces = self._as_many_on_all_ranks(inputs["pieces"])
        is_last_of_update = self.accelerator.sync_gradients
        total = torch.zeros((), device=self.args.device)
        for piece in pieces:
            is_last = piece is pieces[-1]
            # DeepSpeed makes its update where this says that it is time.
            self.accelerator.gradient_state._set_sync_gradients(is_last and is_last_of_update)
            with nullcontext() if is_last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, piece.to(self.args.device), num_items_in_batch=num_items_in_batch)
                self.accelerator.backward(loss, **self._backward_settings)
            total += loss.detach()
        return total

    @property
    def _backward_settings(self) -> dict[str, Any]:
        # DeepSpeed would divide by the micro-batches once more.
        return {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}

    def _as_many_on_all_ranks(self, pieces: list[Piece]) -> list[Piece]:
        """Sharded weights are gathered in every pass, by all or by none."""
        most = max(1, len(pieces))
        if self.accelerator.num_processes > 1:
            most = int(self.accelerator.gather(torch.tensor([most], device=self.args.device)).max())
        return pieces + [nothing() for _ in range(most - len(pieces))]

    def compute_loss(self, model: nn.Module, inputs: Piece, return_outputs: bool = False,
                     num_items_in_batch: Any = None) -> Any:  # fmt: skip
        """This piece's part of the whole batch's objective."""
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        losses = token_losses(model, head, inputs)
        sums = sum_by_kind(losses, inputs.weights)
        self.sums += sums.detach()
        whole = num_items_in_batch or self.whole
        # Ranks average their gradients; the parts are to be added.
        loss = combine(sums, inputs.examples, whole, self.weighting, self.log_variance) * self.accelerator.num_processes
        return (loss, losses) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's groups, and σ in one of its own: at the student's rate and decay it would hardly move."""
        fresh = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if fresh and self.log_variance.requires_grad:
            optimizer.add_param_group({"params": [self.log_variance], "lr": self.sigma_rate, "weight_decay": 0.0,
                                       "betas": SIGMA_BETAS})
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm-up and cosine for the student; σ keeps its rate to the end, or it would stop short of √L."""
        if self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            warmup = self.args.get_warmup_steps(num_training_steps)
            held = self.log_variance.requires_grad
            rates: list[Callable[[int], float]] = [
                (lambda _step: 1.0) if held and group is optimizer.param_groups[-1]
                else (lambda step: cosine(step, warmup, num_training_steps))
                for group in optimizer.param_groups
            ]  # fmt: skip
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def meet_sigma(self) -> None:
        """Before the update: σ is no part of the model, so nobody else averages its gradient over the ranks."""
        if self.accelerator.num_processes > 1 and self.log_variance.grad is not None:
            self.log_variance.grad = self.accelerator.reduce(self.log_variance.grad, "mean")

    def close_update(self) -> None:
        """After the update: the closed form's turn, and a line for the curve."""
        sums = self.accelerator.reduce(self.sums, "sum") if self.accelerator.num_processes > 1 else self.sums
        losses = sums / self.whole.trajectories
        if self.weighting.name == "ema":
            self.log_variance.data, self.seen = closed_form(self.log_variance.data, self.seen, losses, self.whole)
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        point = CurvePoint(step=self.state.global_step, seconds=round(self.seconds, 3), tokens=self.tokens,
                           rate=self._get_learning_rate(), loss=by_kind(losses, self.whole), sigma=self.sigma())
        if self.is_world_process_zero():
            self.curve.append(point)
            self.on_update(point)

    def sigma(self) -> dict[Any, float]:
        return by_kind(torch.exp(self.log_variance.detach() / 2))

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the start; the curve forgets what comes after it."""
        step = 0
        if checkpoint:
            mark = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
            step, self.tokens, self.seconds = mark["step"], mark["tokens"], mark["seconds"]
            self.log_variance.data.copy_(torch.tensor(mark["log_variance"]))
            self.seen.copy_(torch.tensor(mark["seen"]))
        if self.is_world_process_zero():
            self.curve.keep_until(step)
        self.clock = time.monotonic()
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            mark = {"step": self.state.global_step, "tokens": self.tokens, "seconds": self.seconds,
                    "log_variance": self.log_variance.tolist(), "seen": self.seen.tolist()}
            write_atomic(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}" / MARK, json.dumps(mark))


class _Updates(TrainerCallback):
    """Tells the trainer when an update is about to happen and has happened; the callback runs before any checkpoint."""

    def __init__(self, trainer: StepERTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,  # noqa: ARG002
                              **_: Any) -> None:
        self.trainer.meet_sigma()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,  # noqa: ARG002
                    **_: Any) -> None:
        self.trainer.close_update()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those a crash cut short are removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / MARK).is_file():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the full rate: a linear rise, then half a cosine down to nothing."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def _vocabulary(model: nn.Module) -> int:
    return int(model.config.get_text_config().vocab_size)  # type: ignore[union-attr, operator]
