"""Laws of the objective: however a batch is split, whatever it holds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steper_agent.errors import ConfigError
from training.objective import Whole, closed_form, combine, parse_weighting, sum_by_kind

WEIGHTINGS = ["learned", "ema", "uniform", "fixed:1.5,1,0.5"]


def batch(seed: int = 0, *, kinds: tuple[int, ...] = (0, 1, 1, 2, 0, 2, 1, 2)) -> tuple[Tensor, Tensor, Tensor, Whole]:
    """Token losses, the example of each, its weights, and what the batch holds."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.arange(len(kinds)).repeat_interleave(torch.randint(1, 6, (len(kinds),), generator=generator))
    losses = torch.rand(len(row), generator=generator).requires_grad_()
    weights = torch.nn.functional.one_hot(torch.tensor(kinds), 3)[row] / torch.bincount(row)[row][:, None]
    counts = [kinds.count(kind) for kind in range(3)]
    return losses, row, weights, Whole(4, (counts[0], counts[1], counts[2]))


def in_pieces(count: int, weighting: str) -> tuple[float, Tensor, Tensor | None]:
    """Value, gradient of the token losses and of log σ², the batch taken in `count` pieces."""
    losses, row, weights, whole = batch()
    log_variance = torch.tensor([0.3, -0.2, 0.9], requires_grad=weighting == "learned")
    examples = sum(whole.examples)
    total, size = 0.0, examples // count
    for start in range(0, examples, size):
        mine = (row >= start) & (row < start + size)
        sums = sum_by_kind(losses[mine], weights[mine])
        part = combine(sums, size, whole, parse_weighting(weighting), log_variance)
        part.backward()
        total += part.item()
    assert losses.grad is not None
    return total, losses.grad, log_variance.grad


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("count", [2, 4, 8])
def test_any_split_of_a_batch_gives_the_same_value_and_gradients(count: int, weighting: str) -> None:
    value, gradient, of_sigma = in_pieces(1, weighting)
    other, other_gradient, other_of_sigma = in_pieces(count, weighting)
    assert other == pytest.approx(value, abs=1e-6)
    torch.testing.assert_close(other_gradient, gradient)
    if of_sigma is None or other_of_sigma is None:
        assert of_sigma is other_of_sigma
    else:
        torch.testing.assert_close(other_of_sigma, of_sigma)


def test_an_absent_kind_gives_its_sigma_no_gradient() -> None:
    losses, _, weights, whole = batch(kinds=(0, 2, 2, 2))
    log_variance = torch.zeros(3, requires_grad=True)
    combine(sum_by_kind(losses, weights), 4, whole, parse_weighting("learned"), log_variance).backward()
    assert log_variance.grad is not None
    assert (log_variance.grad != 0).tolist() == [True, False, True]


def test_at_the_optimum_the_variance_is_the_loss() -> None:
    losses, _, weights, whole = batch()
    sums = sum_by_kind(losses, weights).detach()
    log_variance = torch.log(sums / whole.trajectories).requires_grad_()
    combine(sums, 8, whole, parse_weighting("learned"), log_variance).backward()
    torch.testing.assert_close(log_variance.grad, torch.zeros(3))


def test_the_paper_s_sum_is_a_third_of_the_losses_over_the_trajectories() -> None:
    losses, row, weights, whole = batch()
    value = combine(sum_by_kind(losses, weights), 8, whole, parse_weighting("uniform"), torch.zeros(3))
    by_hand = sum(losses[row == number].mean().item() for number in range(8)) / (3 * whole.trajectories)
    assert value.item() == pytest.approx(by_hand)


@pytest.mark.parametrize("kind", range(3))
def test_sigma_comes_to_the_root_of_a_loss_that_stays(kind: int) -> None:
    """With the optimizer and the rate that σ has in training."""
    losses = torch.tensor([0.4, 1.7, 0.05])
    log_variance = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.AdamW([log_variance], lr=0.02, betas=(0.9, 0.99), weight_decay=0.0)
    noise = torch.Generator().manual_seed(kind)
    for _ in range(800):
        optimizer.zero_grad()
        sums = 4 * losses * (0.9 + 0.2 * torch.rand(3, generator=noise))
        combine(sums, 8, Whole(4, (2, 3, 3)), parse_weighting("learned"), log_variance).backward()
        optimizer.step()
    assert torch.exp(log_variance[kind] / 2).item() == pytest.approx(losses[kind].sqrt().item(), rel=0.02)


def test_the_closed_form_starts_at_the_first_loss_and_follows_a_constant_one() -> None:
    log_variance, seen, whole = torch.zeros(3), torch.zeros(3), Whole(2, (2, 0, 2))
    for loss in [3.0] + [0.5] * 300:
        log_variance, seen = closed_form(log_variance, seen, torch.full((3,), loss), whole)
        if seen[0] == 1:
            torch.testing.assert_close(torch.exp(log_variance)[0], torch.tensor(3.0))
    torch.testing.assert_close(torch.exp(log_variance), torch.tensor([0.5, 1.0, 0.5]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("text", ["", "fixed:1,2", "fixed:a,b,c", "fixed:-1,1,1", "other:1,1,1", "Learned"])
def test_an_unknown_weighting_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="unknown weighting"):
        parse_weighting(text)
