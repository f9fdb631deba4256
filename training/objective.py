"""StepER's objective as pure functions of tensors: token losses → sums per kind → one number.

    Σ_j [L_j / (2 σ_j²) + log σ_j]    over the kinds j of step, L_j the loss of kind j; at the optimum σ_j² = L_j

Lee et al. 2025 (arXiv 2510.07923); the weights are those of Kendall, Gal, Cipolla 2018. Two repairs make the weights act. σ has an
optimizer of its own: at the model's learning rate of 5e-6 it would move by a hundredth in a whole run. And a kind that a batch
does not hold leaves its σ alone.

Sums and counts travel apart and are divided once, by the trajectories of the whole batch: however a batch is split, the pieces'
values and gradients add up to the same.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from steper_agent.errors import ConfigError
from steper_agent.records import KINDS, Kind

WINDOW = 20
"""Updates the closed form (`ema`) looks back over."""


class Whole(NamedTuple):
    """What the whole optimizer batch holds, over all its micro-batches and ranks."""

    trajectories: int
    examples: tuple[int, int, int]
    """Examples of each kind, in the order of KINDS."""


class Weighting(NamedTuple):
    """How the kinds' losses are put together."""

    name: str
    fixed: tuple[float, float, float] | None
    """Constant weights; None where they follow σ."""


def parse_weighting(text: str) -> Weighting:
    """`learned`, `ema`, `uniform`, or `fixed:a,b,c` in the order initialization, expansion, aggregation."""
    if text in ("learned", "ema"):
        return Weighting(text, None)
    if text == "uniform":
        return Weighting(text, (1.0, 1.0, 1.0))
    try:
        name, numbers = text.split(":")
        a, b, c = (float(number) for number in numbers.split(","))
    except ValueError:
        name, a, b, c = "", 0.0, 0.0, 0.0
    if name != "fixed" or not all(0 <= weight < math.inf for weight in (a, b, c)) or a + b + c == 0:
        raise ConfigError(f"unknown weighting `{text}`", where="weighting",
                          fix="one of: learned, ema, uniform, fixed:1.5,1,0.5")
    return Weighting(text, (a, b, c))


def sum_by_kind(token_losses: Tensor, weights: Tensor) -> Tensor:
    """Sum over the examples of each kind of ℓ, an example's mean cross entropy over the tokens it is asked to learn.

    The mean, not the sum, so that a long rationale does not weigh more than a short one.

    Args:
        token_losses: (P,) cross entropy of every learned token, in nats.
        weights: (P, 3) of each in the sum of every kind: one by its example's count of learned tokens, added over the
            examples that share it.

    Returns:
        (3,) sums.
    """
    return token_losses @ weights.to(token_losses.dtype)


def divergence(logprobs: Tensor, rest: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) at every place, over the teacher's likeliest tokens and all others taken as one.

    What a teacher tells of its likeliest tokens fixes this much of the whole divergence and no more: it is never above it, and
    nothing exactly where the student gives the told tokens the same chances (Cover, Thomas: KL falls when outcomes are merged).

    Args:
        logprobs: (R, K) the student's of those tokens; what stands where the teacher told fewer does not count.
        rest: (R,) the student's of all other tokens together.
        teacher: (R, K) the teacher's; -inf where it told fewer.

    Returns:
        (R,) in nats.
    """
    told = torch.exp(teacher)
    others = (1 - told.sum(-1)).clamp(min=0)
    of_told = torch.where(told > 0, told * (teacher.clamp(min=-1e4) - logprobs), torch.zeros_like(told)).sum(-1)
    return of_told + torch.xlogy(others, others) - others * rest


def combine(sums: Tensor, examples: int, whole: Whole, weighting: Weighting, log_variance: Tensor) -> Tensor:
    """One piece's part of the objective; the parts of all pieces add up to that of the whole batch.

    Σ_j [L_j / (2 σ_j²) + log σ_j] over the kinds the whole batch holds, L_j = (Σ ℓ of kind j) / trajectories;
    with fixed weights Σ_j w_j L_j / 3.

    Args:
        sums: (3,) what `sum_by_kind` says of this piece.
        examples: How many examples this piece holds: its share of the log σ terms.
        log_variance: (3,) log σ²; a parameter (`learned`) or a running figure (`ema`).
    """
    losses = sums / whole.trajectories
    if weighting.fixed is not None:
        return (losses * losses.new_tensor(weighting.fixed)).sum() / len(KINDS)
    present = torch.tensor(whole.examples, device=losses.device) > 0
    share = examples / sum(whole.examples)
    weighed = losses * torch.exp(-log_variance) / 2 + share * log_variance / 2
    return torch.where(present, weighed, torch.zeros_like(weighed)).sum()


def closed_form(log_variance: Tensor, seen: Tensor, losses: Tensor, whole: Whole) -> tuple[Tensor, Tensor]:
    """σ² as the running mean of L per kind: every update counts alike at first, the last WINDOW of them later.

    Args:
        seen: (3,) updates that held each kind so far.
        losses: (3,) L of the batch just trained on.

    Returns:
        The new log σ² and `seen`. A kind the batch does not hold keeps both.
    """
    present = torch.tensor(whole.examples, device=losses.device) > 0
    rate = 1 / (seen + 1).clamp(max=WINDOW)
    mean = torch.where(seen > 0, torch.exp(log_variance), torch.zeros_like(losses))
    moved = torch.log((mean + rate * (losses - mean)).clamp(min=1e-8))
    return torch.where(present, moved, log_variance), seen + present


def by_kind(values: Tensor, whole: Whole | None = None) -> dict[Kind, float]:
    """Name three figures; with `whole`, only those of kinds the batch holds."""
    return {kind: float(value) for number, (kind, value) in enumerate(zip(KINDS, values.tolist(), strict=True))
            if whole is None or whole.examples[number]}
