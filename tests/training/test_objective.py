"""Laws of the objective: however a batch is split, whatever it holds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steper_agent.errors import ConfigError
from training.objective import Whole, closed_form, combine, parse_weighting, sum_by_kind

WEIGHTINGS = ["learned", "ema", "uniform", "fixed:1.5,1,0.5"]


def batch(seed: int = 0, *, kinds: tuple[int, ...] = (0, 1, 1, 2, 0, 2, 1, 2)) -> tuple[Tensor, Tensor, Tensor, Whole]:
    generator = torch.Generator().manual_seed(seed)
    row = torch.arange(len(kinds)).repeat_interleave(torch.randint(1, 6, (len(kinds),), generator=generator))
    losses = torch.rand(len(row), generator=generator).requires_grad_()
    counts = [kinds.count(kind) for kind in range(3)]
    return losses, row, torch.tensor(kinds), Whole(4, (counts[0], counts[1], counts[2]))


def in_pieces(count: int, weighting: str) -> tuple[float, Tensor, Tensor | None]:
    """Value, gradient of the token losses and of log σ², the batch taken in `count` pieces."""
    losses, row, kind, whole = batch()
    log_variance = torch.tensor([0.3, -0.2, 0.9], requires_grad=weighting == "learned")
    total, size = 0.0, len(kind) // count
    for start in range(0, len(kind), size):
        mine = (row >= start) & (row < start + size)
        sums = sum_by_kind(losses[mine], row[mine] - start, kind[start : start + size])
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
    losses, row, kind, whole = batch(kinds=(0, 2, 2, 2))
    log_variance = torch.zeros(3, requires_grad=True)
    combine(sum_by_kind(losses, row, kind), 4, whole, parse_weighting("learned"), log_variance).backward()
    assert log_variance.grad is not None
    assert (log_variance.grad != 0).tolist() == [True, False, True]


def test_at_the_optimum_the_variance_is_the_loss() -> None:
    losses, row, kind, whole = batch()
    sums = sum_by_kind(losses, row, kind).detach()
    log_variance = torch.log(sums / whole.trajectories).requires_grad_()
    combine(sums, len(kind), whole, parse_weighting("learned"), log_variance).backward()
    torch.testing.assert_close(log_variance.grad, torch.zeros(3))


def test_the_paper_s_sum_is_a_third_of_the_losses_over_the_trajectories() -> None:
    losses, row, kind, whole = batch()
    value = combine(sum_by_kind(losses, row, kind), len(kind), whole, parse_weighting("uniform"), torch.zeros(3))
    by_hand = sum(losses[row == number].mean().item() for number in range(len(kind))) / (3 * whole.trajectories)
    assert value.item() == pytest.approx(by_hand)


def test_examples_weigh_alike_whatever_their_length() -> None:
    short, long = torch.tensor([2.0]), torch.full((9,), 2.0)
    one = sum_by_kind(short, torch.zeros(1, dtype=torch.long), torch.tensor([1]))
    other = sum_by_kind(long, torch.zeros(9, dtype=torch.long), torch.tensor([1]))
    torch.testing.assert_close(one, other)


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
