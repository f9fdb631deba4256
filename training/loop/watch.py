"""What a training run tells against itself: σ that stayed where it was, a kind that was never there, a loss that rose, updates cut
short. And the end of a run whose figures are no numbers any more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from steper_agent.errors import StepERError
from steper_agent.records import KINDS, Kind
from training.examples.dataset_folder import DatasetCard
from training.loop.curve import CurvePoint

MOVED = 0.1
"""Less than this share of its start is no move of σ."""
ROSE, SURE = 0.05, 3.0
"""A rise of a loss is told from its noise by a share of the loss, and by so many standard errors."""
FEW = 8
"""Updates of the last quarter that a rise needs."""
EARLY = 20
"""Updates after which most of them being clipped is told at once."""

MEANING: dict[Kind, str] = {
    "initialization": "to begin with the first passages and no reasoning yet",
    "expansion": "to go on from a chain that is not finished",
    "aggregation": "to conclude and answer",
}


class Diverged(StepERError):
    """A loss or a gradient is no finite number: nothing that follows would mean anything."""


@dataclass(frozen=True)
class Watched:
    """What the warnings are judged by, besides the curve."""

    weighting: str
    sigma_rate: float
    clip: float
    card: DatasetCard


class Watch:
    """Says each warning once; what it has said is in `warnings`, in its order."""

    def __init__(self, watched: Watched, tell: Callable[[str], None]) -> None:
        self.watched, self.tell = watched, tell
        self.warnings: list[str] = []
        self._told: set[str] = set()

    def begin(self) -> None:
        self._say("absent", absent(self.watched.card))

    def look(self, step: int, steps: int, clipped: int) -> None:
        """After an update, of which `clipped` were cut short so far."""
        if step >= max(EARLY, steps // 4):
            self._say("clipped", cut_short(clipped, step, self.watched))

    def end(self, curve: Sequence[CurvePoint], clipped: int) -> None:
        self._say("still", unmoved(curve, self.watched))
        self._say("rose", risen(curve))
        self._say("clipped", cut_short(clipped, len(curve), self.watched))

    def _say(self, name: str, words: str) -> None:
        if words and name not in self._told:
            self._told.add(name)
            self.warnings.append(words)
            self.tell(f"warning: {words}")


def absent(card: DatasetCard) -> str:
    """Kinds that the data set was to hold and does not."""
    wanted = card.kinds if card.view == "stepwise" else ("aggregation",)
    gone = [kind for kind in KINDS if kind in wanted and not card.examples.get(kind)]
    if not gone:
        return ""
    means = "; ".join(f"without {kind} the student is not taught {MEANING[kind]}" for kind in gone)
    return f"the data set has no example of {_and(gone)}: {means}. Collect questions that take more steps, or raise --max-length of training.dataset"


def unmoved(curve: Sequence[CurvePoint], watched: Watched) -> str:
    """Kinds whose σ stayed where it began, though their loss says that it belongs elsewhere."""
    if watched.weighting not in ("learned", "ema") or not curve:
        return ""
    still = []
    for kind, belongs in _belongs(curve).items():
        sigma = curve[-1].sigma[kind]
        if abs(sigma - 1) <= MOVED < abs(belongs - 1):
            still.append(f"{kind} ended at {sigma:.2f} and belongs at {belongs:.2f}")
    if not still:
        return ""
    return (f"σ has not moved by more than {MOVED:.0%}, so the weights stayed nearly uniform: {'; '.join(still)}. "
            f"Raise --sigma-rate (it was {watched.sigma_rate:g}), train for more than {len(curve)} updates, or take --weighting ema")


def risen(curve: Sequence[CurvePoint]) -> str:
    """Kinds whose loss rose from the first to the second half of the last quarter, by more than noise does."""
    rose = []
    for kind in KINDS:
        losses = [point.loss[kind] for point in curve if kind in point.loss]
        last = losses[len(losses) - len(losses) // 4 :]
        if len(last) < FEW:
            continue
        before, after = last[: len(last) // 2], last[len(last) // 2 :]
        rise = fmean(after) - fmean(before)
        error = math.sqrt(variance(before) / len(before) + variance(after) / len(after))
        if rise > max(ROSE * fmean(before), SURE * error):
            rose.append(f"{kind} from {fmean(before):.3f} to {fmean(after):.3f}")
    if not rose:
        return ""
    return f"the loss rose in the last quarter: {'; '.join(rose)}. Lower --learning-rate, or stop earlier with --max-steps"


def cut_short(clipped: int, updates: int, watched: Watched) -> str:
    """Most gradients were longer than they may be. A σ that follows the loss makes all of them longer as it falls, by 1/2σ²: then it
    says nothing."""
    if watched.weighting in ("learned", "ema") or not updates or clipped <= updates / 2:
        return ""
    return (f"the gradient was cut to --clip {watched.clip:g} in {clipped} of {updates} updates: a batch that is far off weighs no more than any other. "
            "Raise --clip or take a larger --batch; where the loss does not fall, lower --learning-rate")


def diverged(what: str, step: int, questions: Sequence[str], checkpoint: object) -> Diverged:
    """The error of an update that was not made."""
    named = ", ".join(questions[:8]) + (f" and {len(questions) - 8} more" if len(questions) > 8 else "")
    kept = f"; {checkpoint} is whole" if checkpoint else ""
    return Diverged(f"{what} of update {step} is no finite number; nothing was updated{kept}", where=f"trajectories of the questions {named}",
                    fix="train again with a smaller --learning-rate, a longer --warmup or without --bf16; if it is always these "
                        "questions, look at them: python -m training.distill inspect")  # fmt: skip


def _belongs(curve: Sequence[CurvePoint]) -> dict[Kind, float]:
    """√L of the last quarter: where σ of each kind would come to rest."""
    last = curve[-max(1, len(curve) // 4) :]
    held = {kind: [point.loss[kind] for point in last if kind in point.loss] for kind in KINDS}
    return {kind: math.sqrt(fmean(losses)) for kind, losses in held.items() if losses}


def _and(words: Sequence[str]) -> str:
    return " or ".join(words)
