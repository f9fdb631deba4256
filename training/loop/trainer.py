"""The Hugging Face Trainer with StepER's objective: one item is a trajectory, and σ is learned beside the student.

What is ours: the loss and its divisor, token trees, logits only where something is learned, σ with its own optimizer and in every
checkpoint, and a curve line an update. The rest is the Trainer's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from steper_agent.records import KINDS, Example
from training.disk import room_for
from training.examples.dataset_folder import Dataset
from training.loop.curve import Curve, CurvePoint
from training.loop.difficulty import Difficulty
from training.loop.losses import token_losses
from training.loop.order import Shuffled
from training.loop.resume import (
    Mark,
    check_following,
    check_probe,
    check_state,
    newest_checkpoint,
    read_mark,
    weight_digests,
    write_mark,
)
from training.loop.watch import Diverged, diverged
from training.objective import Whole, by_kind, combine, parse_weighting, sum_by_kind
from training.trees.pieces import LOGITS, TOKENS, Budget, Packing, Piece, nothing, pieces_of

Batch = dict[str, Any]


def collate(trajectories: Sequence[Sequence[Example]], lay: Callable[[list[Example]], list[Piece]]) -> Batch:
    """The pieces of some trajectories and, for the divisor, what they hold: kinds (3,), trajectories (1,), tokens (1,); and which they are."""
    examples = [example for examples in trajectories for example in examples]
    kinds = torch.tensor([KINDS.index(example.kind) for example in examples], dtype=torch.long)
    return {"pieces": lay(examples), "kinds": torch.bincount(kinds, minlength=len(KINDS)),
            "trajectories": torch.tensor([sum(map(bool, trajectories))]), "tokens": torch.tensor([sum(len(e.ids) for e in examples)]),
            "rows": sorted({example.trajectory for example in examples})}


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
    kl: float = 0.0
    """Weight of the divergence from a teacher's log-probabilities, beside the cross entropy of its words."""
    tokens: int = TOKENS
    """Most of one piece."""


class StepERTrainer(Trainer):
    """Trains on trajectories; every argument not named here is the Trainer's own."""

    lr_scheduler: Any

    def __init__(self, model: nn.Module, args: TrainingArguments, data: Dataset, objective: Objective, curve: Curve) -> None:
        self.lay = partial(pieces_of, packing=objective.packing, budget=budget_of(model, objective.tokens), pad=objective.pad)
        super().__init__(model, args, train_dataset=[*data.trajectories, []], data_collator=partial(collate, lay=self.lay))
        self.remove_callback(PrinterCallback)
        self.add_callback(_Updates(self))
        self.data = data
        self.weighting, self.kl = parse_weighting(objective.weighting), objective.kl
        self.difficulty = Difficulty(self.weighting, objective.sigma_rate, args.device)
        self.curve = curve
        self.on_update: Callable[[CurvePoint], None] = lambda _point: None
        self.sums = torch.zeros(len(KINDS), device=args.device)
        self.whole = Whole(0, (0, 0, 0))
        self.losses: dict[Any, float] = {}
        """L of each kind in the update made last."""
        self.rate = 0.0
        """Of the student's weights, in that update."""
        self.tokens, self.seconds, self.clock = 0, 0.0, time.monotonic()
        self.clipped = 0
        """Updates whose gradient was longer than it may be."""
        self.rows: list[int] = []
        """Trajectories of the update at hand, on this process."""
        self.resumed: tuple[Path, Mark] | None = None
        """The checkpoint that this run goes on from, until its first update."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Shuffled:  # noqa: ARG002
        self.order = self._shuffled()
        return self.order

    def _shuffled(self) -> Shuffled:
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
        self.rows = [row for batch in batches for row in batch["rows"]]
        if self.resumed:
            check_following(*self.resumed, self.rows)
            self.resumed = None
        self.sums.zero_()
        self.difficulty.begin_update()
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
        losses, apart = token_losses(model, head, inputs)
        sums = sum_by_kind(losses, inputs.weights) + self.kl * sum_by_kind(apart, inputs.told.weights)
        self.sums += sums.detach()
        whole = num_items_in_batch or self.whole
        # Ranks average their gradients; the parts are to be added.
        loss = combine(sums, inputs.examples, whole, self.weighting, self.difficulty.log_variance) * self.accelerator.num_processes
        return (loss, losses) if return_outputs else loss

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            share = partial(cosine, warmup=self.args.get_warmup_steps(num_training_steps), steps=num_training_steps)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, share)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Of the update that is about to be made, before it was clipped; one that is no number ends the run."""
        norm = super()._get_grad_norm(model, grad_norm)
        if not torch.isfinite(self.sums).all():
            raise self._diverged("the loss")
        length = 0.0 if norm is None else float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if not math.isfinite(length):
            raise self._diverged("the gradient")
        self.clipped += 0 < self.args.max_grad_norm < length
        return norm

    def _diverged(self, what: str) -> Diverged:
        questions = [self.data.question_ids[row] if row < len(self.data.question_ids) else f"row {row}" for row in self.rows]
        return diverged(what, self.state.global_step + 1, list(dict.fromkeys(questions)), newest_checkpoint(Path(str(self.args.output_dir))))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The total alone says little, and goes below nothing: TensorBoard and the like get each kind's loss and σ beside it."""
        if "loss" in logs:
            logs |= {f"{what}/{kind}": figure for what, figures in (("loss", self.losses), ("sigma", self.difficulty.told())) for kind, figure in figures.items()}
        super().log(logs, start_time)

    def update_difficulty(self) -> None:
        """Beside the student's update. σ is no part of the model, so nobody else averages its gradient over the ranks."""
        self.rate = self._get_learning_rate()
        log_variance = self.difficulty.log_variance
        if self.accelerator.num_processes > 1 and log_variance.grad is not None:
            log_variance.grad = self.accelerator.reduce(log_variance.grad, "mean")
        self.difficulty.learn(self.whole)

    def close_update(self) -> None:
        """After the update: the closed form's turn, and a line for the curve."""
        sums = self.accelerator.reduce(self.sums, "sum") if self.accelerator.num_processes > 1 else self.sums
        losses = sums / self.whole.trajectories
        if self.weighting.name == "ema":
            self.difficulty.follow(losses, self.whole)
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        self.losses = by_kind(losses, self.whole)
        point = CurvePoint(step=self.state.global_step, seconds=round(self.seconds, 3), tokens=self.tokens,
                           rate=self.rate, loss=self.losses, sigma=self.difficulty.told())
        if self.is_world_process_zero():
            with room_for("a line of the curve", self.curve.path):
                self.curve.append(point)
            self.on_update(point)

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the start; the curve forgets what comes after it.

        Raises:
            DataError: the checkpoint does not come back as it was saved.
        """
        step = 0
        if checkpoint:
            mark = read_mark(checkpoint)
            self.resumed = (checkpoint, mark)
            step, self.tokens, self.seconds, self.clipped = mark.step, mark.tokens, mark.seconds, mark.clipped
            self.difficulty.remember(mark.difficulty)
        if self.is_world_process_zero():
            self.curve.keep_until(step)
        self.clock = time.monotonic()
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _run_epoch(self, *given: Any, **named: Any) -> None:
        # Resumed where `max_steps` is reached in mid-epoch, the Trainer would still do one update more.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*given, **named)

    def check_resumed(self) -> None:
        """When all is loaded and nothing is trained yet."""
        if self.resumed is None:
            return
        checkpoint, mark = self.resumed
        # DeepSpeed keeps the optimizer's memory in places of its own, and restores it with the weights.
        memory = None if self.is_deepspeed_enabled else max((int(held["step"]) for held in self.optimizer.state.values() if "step" in held), default=0)
        check_state(checkpoint, mark, {"step": self.state.global_step, "seed": self.args.seed, "optimizer": memory, "difficulty": self.difficulty.memory()})
        check_probe(checkpoint, mark, self.probe(), half=self.args.bf16)

    @torch.no_grad()
    def probe(self) -> float:
        """Mean loss of all tokens of the shortest example, by the weights as they are. All ranks compute it, since weights may be in
        shards."""
        shortest = min((example for examples in self.data.trajectories for example in examples), key=lambda example: len(example.ids))
        (piece,) = self.lay([shortest.model_copy(update={"learn": (0, *(1 for _ in shortest.ids[1:])), "likely": None})])
        self.model_wrapped.eval()
        _, losses = self.compute_loss(self.model_wrapped, piece.to(self.args.device), return_outputs=True, num_items_in_batch=Whole(1, (1, 1, 1)))
        self.model_wrapped.train()
        return float(losses.mean())

    def whole_weights(self) -> dict[str, Tensor]:
        """By name, on the first process; all must ask. Of tied weights each once: gathered from shards they would be two."""
        tied = getattr(self.model, "all_tied_weights_keys", {})
        return {name: weight for name, weight in self.accelerator.get_state_dict(self.model_wrapped).items() if name not in tied}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        checkpoint, probe = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}", self.probe()
        if not math.isfinite(probe):
            raise self._diverged("the loss")
        with room_for(f"the checkpoint of update {self.state.global_step}", checkpoint):
            super()._save_checkpoint(model, trial)
            if self.is_world_process_zero():
                write_mark(checkpoint, Mark(
                    step=self.state.global_step, tokens=self.tokens, seconds=self.seconds, clipped=self.clipped, seed=self.args.seed,
                    difficulty=self.difficulty.memory(), probe=probe,
                    weights=weight_digests(checkpoint), following=tuple(sorted(self._shuffled().update(self.state.global_step))),
                ))  # fmt: skip


class _Updates(TrainerCallback):
    """Tells the trainer when an epoch begins, and when an update is about to happen and has happened, before any checkpoint."""

    def __init__(self, trainer: StepERTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,  # noqa: ARG002
                       **_: Any) -> None:
        self.trainer.check_resumed()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        # Where a run of several processes is resumed within an epoch, the Trainer does not reach the order behind its wrappers.
        self.trainer.order.set_epoch(state.global_step // self.trainer.order.updates)

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,  # noqa: ARG002
                              **_: Any) -> None:
        self.trainer.update_difficulty()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl,  # noqa: ARG002
                    **_: Any) -> None:
        self.trainer.close_update()


def cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the full rate: a linear rise, then half a cosine down to nothing."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def budget_of(model: nn.Module, tokens: int) -> Budget:
    """Of a piece: the larger the vocabulary, the fewer tokens are learned in one."""
    return Budget(tokens, max(1, LOGITS // int(model.config.get_text_config().vocab_size)))  # type: ignore[union-attr, operator]
