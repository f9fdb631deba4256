"""σ of every kind of step, learned beside the student: by gradient, or as the closed form has it.

It has an optimizer of its own. In the student's it would be a weight that is none of the model's, which whoever shards a model and its
optimizer over processes (FSDP2, ZeRO-3) does not take; and at the student's rate it would hardly move.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from steper_agent.records import KINDS, Kind, Record
from training.objective import Weighting, Whole, by_kind, closed_form

BETAS = (0.9, 0.99)
"""Adam's memory for σ, shorter than usual: the losses it follows fall within tens of updates."""


class Memory(Record):
    """All that must be kept to go on as if nothing had happened."""

    log_variance: tuple[float, ...]
    """log σ² of every kind."""
    seen: tuple[float, ...]
    """Updates that held each kind; counted by the closed form alone."""
    adam: dict[str, tuple[float, ...]]
    """State of the optimizer by its own names; empty where σ is not learned by gradient."""


class Difficulty:
    def __init__(self, weighting: Weighting, rate: float, device: torch.device) -> None:
        """`rate`: of log σ², the same to the end; with the student's cosine it would stop short of √L."""
        self.log_variance = nn.Parameter(torch.zeros(len(KINDS), device=device), weighting.name == "learned")
        self.seen = torch.zeros(len(KINDS), device=device)
        self._optimizer = torch.optim.AdamW([self.log_variance], lr=rate, betas=BETAS, weight_decay=0.0, fused=True)

    def begin_update(self) -> None:
        self._optimizer.zero_grad()

    def learn(self, whole: Whole) -> None:
        """The gradient's turn. Adam would go on moving a kind that the batch does not hold."""
        before, held = self.log_variance.detach().clone(), torch.tensor(whole.examples, device=self.seen.device) > 0
        self._optimizer.step()
        self.log_variance.data.copy_(torch.where(held, self.log_variance.detach(), before))

    def follow(self, losses: Tensor, whole: Whole) -> None:
        """The closed form's turn. `losses`: (3,) L of the batch just trained on."""
        moved, self.seen = closed_form(self.log_variance.detach(), self.seen, losses, whole)
        self.log_variance.data.copy_(moved)

    def told(self) -> dict[Kind, float]:
        """σ by kind."""
        return by_kind(torch.exp(self.log_variance.detach() / 2))

    def memory(self) -> Memory:
        adam = self._optimizer.state.get(self.log_variance, {})
        return Memory(log_variance=_told(self.log_variance), seen=_told(self.seen), adam={name: _told(held) for name, held in adam.items()})

    def remember(self, memory: Memory) -> None:
        self.log_variance.data.copy_(torch.tensor(memory.log_variance))
        self.seen.copy_(torch.tensor(memory.seen))
        device = self.seen.device
        for name, held in memory.adam.items():
            self._optimizer.state[self.log_variance][name] = torch.tensor(held if len(held) > 1 else held[0], device=device)


def _told(values: Tensor) -> tuple[float, ...]:
    return tuple(values.detach().reshape(-1).tolist())
