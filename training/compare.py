"""The paper's comparison over one journal: python -m training.compare --journal FILE --base DIR --questions FILE --index DIR --out DIR

Every method makes its data set from the same teacher's trajectories, teaches a student of the same base with the same settings and
seed, and lets it answer the same questions over the same index in its own way. docs/comparison.md says what is faithful to each
method's paper and what is not. Stopped or killed, the same command goes on; what is finished is only read, and methods may be added.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import BeforeValidator, Field, field_validator
from rich.console import Console
from rich.table import Table

from graphs.strategies import ircot
from steper_agent.config import Config, command_line, parted
from steper_agent.durable import write_atomic
from steper_agent.errors import JournalError
from steper_agent.records import Record, Score, View
from training.dataset import DatasetConfig
from training.dataset import build as build_dataset
from training.distill import DistillConfig, Distilled
from training.distill import run as distill
from training.evaluate import EvaluateConfig, Report
from training.examples.dataset_folder import DatasetCard, read_card
from training.examples.rivals import RIVALS, check_from
from training.journalled import journalled
from training.judged import DIFFER, judged, same_recipe
from training.loop.live import Live
from training.run_folder import claim
from training.scores.metrics import Interval, paired_difference
from training.verb import wide_console

REPORT, PLOT = "comparison.json", "comparison.png"
METHODS: tuple[View, ...] = get_args(View)
METRICS = ("em", "f1", "acc")
COLOURS = ("#0072b2", "#d55e00", "#009e73")
"""Of METRICS; told apart by colour-blind readers too."""


class CompareConfig(Config):
    journal: tuple[Path, ...] = Field(description=f"journals of a teacher; rivals need chains collected with --strategy {ircot.NAME}")
    base: Path = Field(description="folder of the base model that every student starts from")
    questions: Path = Field(description="questions with gold answers to judge by; what is in them is not taught")
    index: Path = Field(description="index that the students search")
    out: Path = Field(description="run folder: METHOD/dataset, METHOD/distill, METHOD/evaluate, comparison.json, comparison.png")
    methods: Annotated[tuple[View, ...], BeforeValidator(parted)] = Field(METHODS, min_length=1, description="what to compare, parted by commas; the first is what others differ from")
    limit: int = Field(0, ge=0, description="ask this many questions, drawn with --seed; 0 = all")
    ungrounded: bool = Field(False, description="teach the rivals that search once also what their one search does not find")
    k: int = Field(0, ge=0, description="passages a search returns; 0: as many as the journal's")
    steps: int = Field(5, ge=1, description="step budget of a question")
    max_tokens: int = Field(256, ge=1, description="tokens a model call may write; a rival writes its whole reasoning in one")
    concurrency: int = Field(8, ge=1, description="questions side by side")
    max_length: int = Field(0, ge=0, description="tokens of the longest example; 0: the base's context, up to 4096")
    rank: int = Field(32, gt=0, description="of the LoRA matrices")
    alpha: int = Field(64, gt=0, description="LoRA scale: alpha / rank")
    learning_rate: float = Field(2e-3, gt=0, description="peak; a large base wants 1e-4")
    epochs: int = Field(1, gt=0, description="passes over each method's data set")
    max_updates: int = Field(0, ge=0, description="as many updates for every method instead; 0: go by epochs")
    batch: int = Field(16, gt=0, description="trajectories in one update")
    weighting: str = Field("learned", description="of the stepwise method's kinds of step; its rivals' papers weigh all alike, and so do they")
    sigma_rate: float = Field(0.02, gt=0, description="learning rate of log σ²")
    bf16: bool = Field(False, description="compute in bfloat16, keep weights in float32")
    seed: int = Field(0, description="of the students' first weights, the data's order, the draw and the bootstrap")

    @field_validator("methods")
    @classmethod
    def _each_once(cls, given: tuple[View, ...]) -> tuple[View, ...]:
        return tuple(dict.fromkeys(given))


FREE = ("out", "methods", "limit", "concurrency")
"""Settings that may change between two starts."""


class Gain(Record):
    """Points of EM (hundredths) over the first method, question by question."""

    mean: float
    ci: Interval
    """95 % bootstrap, over pairs. It leaves out zero where the difference is clear."""


class Row(Record):
    """What one method came to."""

    method: View
    strategy: str
    """How its student answers."""
    weighting: str
    student: str
    trajectories: int
    """Kept of the journal's."""
    examples: int
    training_tokens: int
    """Read in all updates, before anything shared is computed once."""
    score: Score
    intervals: dict[str, Interval]
    searches: float
    """Mean a question."""
    written: float
    """Tokens generated, mean a question."""
    gain: Gain | None
    """None for the first."""


class Comparison(Record):
    rows: tuple[Row, ...]
    same: dict[str, Any]
    """What holds for every method's evaluation, digests and versions."""
    differ: tuple[str, ...]
    """What does not, on purpose."""
    settings: dict[str, Any]


class Part(NamedTuple):
    """One method's finished work."""

    method: View
    card: DatasetCard
    student: Distilled
    report: Report
    em: list[float]
    """By question, in the order of their ids."""


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(CompareConfig, "compare", __doc__ or "", argv)
    console = Console(emoji=False)
    show(compare(config, tell=lambda words: console.print(words, highlight=False)), wide_console())
    print(f"{config.out / REPORT}\n{config.out / PLOT}")
    return 0


def compare(config: CompareConfig, *, tell: Callable[[str], None] = print) -> Comparison:
    """Data set, student and evaluation of every method, one after another, and what they come to.

    Raises:
        ConfigError, DataError, JournalError: as the verbs do that it calls; or a rival cannot be made from this journal; or two
            evaluations differ in more than how the student answers.
    """
    teacher = journalled(config.journal)
    if not (config.k or teacher.k):
        raise JournalError("no search says how many passages it returned", where=config.journal[0], fix="give --k")
    for method in config.methods:
        if method in RIVALS:
            check_from(method, teacher.strategy, config.journal[0])
    settings = config.model_copy(update={"k": config.k or teacher.k})
    claim(config.out, settings, free=FREE)
    parts = []
    for method in config.methods:
        tell(f"{method}: data set, student, {config.limit or 'all'} questions")
        parts.append(_part(settings, method, teacher.strategy))
    found = compared(parts, settings)
    write_atomic(config.out / REPORT, found.model_dump_json(indent=1) + "\n")
    write_atomic(config.out / PLOT, drawn(found))
    return found


def compared(parts: Sequence[Part], config: CompareConfig) -> Comparison:
    """The rows of finished methods, each beside the first."""
    same = same_recipe({part.method: part.report for part in parts}, where=config.out)
    return Comparison(rows=tuple(_row(part, parts[0], config) for part in parts), same=same, differ=DIFFER, settings=json.loads(config.model_dump_json()))


def _row(part: Part, first: Part, config: CompareConfig) -> Row:
    found, recipe = part.report.evaluation, part.report.recipe
    gain = None
    if part is not first:
        mean, ci, _ = paired_difference(first.em, part.em, seed=config.seed)
        gain = Gain(mean=100 * mean, ci=(100 * ci[0], 100 * ci[1]))
    return Row(
        method=part.method, strategy=recipe["strategy"], weighting=part.student.settings["weighting"], student=part.student.name,
        trajectories=part.card.trajectories["kept"], examples=sum(part.card.examples.values()), training_tokens=part.student.tokens,
        score=found.score, intervals=found.intervals, searches=found.steps,
        written=found.cost.completion_tokens if found.cost else 0.0, gain=gain,
    )  # fmt: skip


def _part(config: CompareConfig, method: View, strategy: str) -> Part:
    """`strategy`: the teacher's; who is taught its own chains answers in it."""
    folder = config.out / method
    build_dataset(DatasetConfig(
        journal=config.journal, base=config.base, out=folder / "dataset", view=method, held_out=(config.questions,),
        max_length=config.max_length, ungrounded=config.ungrounded,
    ))  # fmt: skip
    settings = DistillConfig(
        dataset=folder / "dataset", base=config.base, out=folder / "distill", rank=config.rank, alpha=config.alpha,
        learning_rate=config.learning_rate, epochs=config.epochs, max_steps=config.max_updates, batch=config.batch,
        weighting=config.weighting if method == "stepwise" else "uniform", sigma_rate=config.sigma_rate, bf16=config.bf16, seed=config.seed,
    )  # fmt: skip
    with Live() as live:
        student = distill(settings, on_update=live.show, on_note=live.note, command=f"python -m training.compare, method {method}")
    report, verdicts = judged(EvaluateConfig(
        index=config.index, questions=config.questions, model=f"local:{config.base}+{student.student}",
        strategy=method if method in RIVALS else strategy, k=config.k, steps=config.steps, limit=config.limit, seed=config.seed,
        max_tokens=config.max_tokens, concurrency=config.concurrency, out=folder / "evaluate",
    ), student.name)  # fmt: skip
    return Part(method, read_card(folder / "dataset"), student, report, [one.em for one in verdicts])


def show(found: Comparison, console: Console) -> None:
    """The table, and what to know to read it."""
    first, n = found.rows[0], found.rows[0].score.n
    table = Table("method", "EM", "F1", "Acc", f"EM over {first.method}", "searches", "written", "trajectories", "examples", "training tokens",
                  title=f"{n} questions, means with 95 % intervals")
    for row in found.rows:
        shares = [f"{getattr(row.score, name):.3f} [{row.intervals[name][0]:.3f}, {row.intervals[name][1]:.3f}]" for name in METRICS]
        table.add_row(row.method, *shares, _gain_told(row.gain), f"{row.searches:.1f}", f"{row.written:.0f}", f"{row.trajectories:,}",
                      f"{row.examples:,}", f"{row.training_tokens:,}")
    console.print(table)
    ways = ", ".join(f"{row.method} by {row.strategy}" for row in found.rows)
    console.print(f"differs on purpose: how the student answers ({ways}), its data set, and the weighting of kinds (stepwise alone: "
                  f"{found.settings['weighting']})\nthe same: journal, base, seed, settings of training, questions, and {', '.join(sorted(found.same))}\n"
                  "searches, tokens written: mean a question; EM over the first in points, paired by question, * where clear", highlight=False)


def _gain_told(gain: Gain | None) -> str:
    if gain is None:
        return ""
    return f"{gain.mean:+.1f} [{gain.ci[0]:+.1f}, {gain.ci[1]:+.1f}]{' *' if gain.ci[0] > 0 or gain.ci[1] < 0 else ''}"


def drawn(found: Comparison) -> bytes:
    """A PNG: the three metrics of every method as bars, with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = FigureCanvasAgg(Figure(figsize=(2 + 1.3 * len(found.rows), 4), layout="constrained"))
    axes = canvas.figure.add_subplot()
    for place, (name, colour) in enumerate(zip(METRICS, COLOURS, strict=True)):
        means = [getattr(row.score, name) for row in found.rows]
        ends = [row.intervals[name] for row in found.rows]
        errors = [[max(0.0, mean - low) for mean, (low, _) in zip(means, ends, strict=True)],
                  [max(0.0, high - mean) for mean, (_, high) in zip(means, ends, strict=True)]]
        axes.bar([at + (place - 1) * 0.27 for at in range(len(means))], means, 0.25, yerr=errors, capsize=3, color=colour, label=name.upper() if name != "acc" else "Acc")
    axes.set_xticks(range(len(found.rows)), [row.method.replace("_", "\n") for row in found.rows])
    axes.set_ylim(0, 1)
    axes.set_ylabel(f"mean of {found.rows[0].score.n} questions, 95 % interval")
    axes.grid(alpha=0.3, axis="y")
    axes.legend()
    file = io.BytesIO()
    canvas.figure.savefig(file, dpi=150, format="png")
    return file.getvalue()


if __name__ == "__main__":
    from training.verb import run

    sys.exit(run(main))
