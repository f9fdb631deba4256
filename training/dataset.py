"""Make a training set from journals: python -m training.dataset --journal FILE… --base DIR --out DIR

Reads what the graph wrote, keeps the trajectories whose answer is right, and writes token ids with a card that says
what was kept, what was dropped and why. `distill` reads nothing else.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError

from steper_agent.config import Config, command_line
from steper_agent.durable import digest_file, write_atomic
from steper_agent.errors import DataError
from steper_agent.journal import trajectories
from steper_agent.records import KINDS, Example, Kind, Record, Trajectory
from training.views import Target, Teaching, View, examples_of, uses_other_tools

EXAMPLES, CARD = "examples.jsonl", "card.json"
BUCKETS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Upper edges of the token histogram."""


class DatasetConfig(Config):
    journal: tuple[Path, ...] = Field(description="journals written by training.collect")
    base: Path = Field(description="folder of the base model the student starts from; its tokenizer makes the ids")
    out: Path = Field(description="folder for the data set")
    view: View = Field("stepwise", description="stepwise: one example a step; vanilla: the last step's only")
    target: Target = Field("cumulative", description="cumulative: learn all lines so far; incremental: the step's own, for tool_calling")
    max_length: int = Field(4096, gt=0, description="tokens; a longer example loses its oldest unneeded passages")
    max_dropped: float = Field(0.2, ge=0, le=1, description="share of examples that may be too long; more is an error")
    all_answers: bool = Field(False, description="keep trajectories with a wrong answer too")


class DatasetCard(Record):
    """What a data set holds and where it came from."""

    view: View
    target: Target
    base: str
    """Fingerprint of the base model whose tokenizer made the ids."""
    max_length: int
    all_answers: bool
    journals: dict[str, str]
    """File → SHA-256."""
    recipes: tuple[str, ...]
    """Digests of the recipes the trajectories came from."""
    trajectories: dict[str, int]
    """Counts: read, kept, and dropped by reason."""
    examples: dict[Kind, int]
    examples_too_long: int
    tokens: int
    learned_tokens: int
    lengths: dict[Kind, dict[str, int]]
    """Examples by length: upper edge in tokens → count."""
    digest: str
    """SHA-256 of examples.jsonl."""


def main(argv: Sequence[str] | None = None) -> int:
    from training.verb import progress

    config = command_line(DatasetConfig, "dataset", __doc__ or "", argv)
    with progress() as bar:
        task = bar.add_task("trajectories")
        card = build(config, on_progress=lambda done, total: bar.update(task, completed=done, total=total))
    kinds = ", ".join(f"{count} {kind}" for kind, count in card.examples.items())
    print(f"{card.trajectories['kept']} of {card.trajectories['read']} trajectories, {card.tokens} tokens: {kinds}")
    print(f"written to {config.out}")
    return 0


def build(config: DatasetConfig, *, on_progress: Callable[[int, int], None] | None = None) -> DatasetCard:
    """Write the data set and return its card.

    Raises:
        DataError: no usable trajectory, or more examples than `max_dropped` do not fit.
    """
    from steper_agent.models.loading import open_tokenizer
    from steper_agent.students.fingerprint import base_fingerprint

    fingerprint = base_fingerprint(config.base)
    config.out.mkdir(parents=True, exist_ok=True)
    teaching = Teaching(open_tokenizer(config.base), config.view, config.target, config.max_length)
    read = [trajectory for path in config.journal for trajectory in trajectories(path)]
    counts = Counter({"read": len(read), "kept": 0})
    lines: list[str] = []
    tally = _Tally()
    for done, trajectory in enumerate(read, start=1):
        reason = _why_not(trajectory, config.all_answers)
        examples, too_long = examples_of(trajectory, len(lines), teaching) if reason is None else ([], 0)
        tally.add(examples, too_long)
        reason = reason or (None if examples else "too long")
        counts["kept" if reason is None else reason] += 1
        if reason is None:
            lines.append(_line(len(lines), trajectory, examples))
        if on_progress:
            on_progress(done, len(read))
    _refuse_poor(config, counts, tally)
    write_atomic(config.out / EXAMPLES, "".join(lines))
    card = DatasetCard(
        view=config.view, target=config.target, base=fingerprint, max_length=config.max_length,
        all_answers=config.all_answers, journals={str(path): digest_file(path) for path in config.journal},
        recipes=tuple(sorted({trajectory.recipe for trajectory in read})), trajectories=dict(counts),
        examples=tally.examples, examples_too_long=tally.too_long, tokens=tally.tokens, learned_tokens=tally.learned,
        lengths=tally.lengths, digest=digest_file(config.out / EXAMPLES),
    )  # fmt: skip
    write_atomic(config.out / CARD, card.model_dump_json(indent=1) + "\n")
    return card


class _Tally:
    def __init__(self) -> None:
        self.examples: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.lengths: dict[Kind, dict[str, int]] = {kind: {} for kind in KINDS}
        self.tokens = self.learned = self.too_long = 0

    def add(self, examples: Sequence[Example], too_long: int) -> None:
        self.too_long += too_long
        for example in examples:
            edge = str(next((edge for edge in BUCKETS if len(example.ids) <= edge), "more"))
            self.examples[example.kind] += 1
            self.lengths[example.kind][edge] = self.lengths[example.kind].get(edge, 0) + 1
            self.tokens += len(example.ids)
            self.learned += sum(example.learn)


def _why_not(trajectory: Trajectory, all_answers: bool) -> str | None:
    """Why this trajectory teaches nothing good; None if it does."""
    from training.metrics import best, em

    if trajectory.stop != "answered":
        return f"stopped by {trajectory.stop}"
    if not all(step.rationale for step in trajectory.steps):
        return "empty rationale"
    if not trajectory.steps and trajectory.strategy != "direct":
        return "no search"
    if uses_other_tools(trajectory):
        return "used a tool other than search"
    if all_answers:
        return None
    if not trajectory.question.answers:
        return "no answer to compare with"
    return None if best(em, trajectory.answer, trajectory.question.answers) == 1 else "wrong answer"


def _line(row: int, trajectory: Trajectory, examples: Sequence[Example]) -> str:
    """Examples are written by pydantic, for json takes five times as long over millions of ids."""
    told = ",".join(example.model_dump_json() for example in examples)
    return f'{{"trajectory":{row},"question_id":{json.dumps(trajectory.question.id)},"examples":[{told}]}}\n'


def _refuse_poor(config: DatasetConfig, counts: Counter[str], tally: _Tally) -> None:
    where = ", ".join(str(path) for path in config.journal)
    made = sum(tally.examples.values())
    if tally.too_long > config.max_dropped * (made + tally.too_long):
        raise DataError(f"{tally.too_long} of {made + tally.too_long} examples exceed {config.max_length} tokens",
                        where=where, fix="raise --max-length, collect with a smaller k, or allow it with --max-dropped")
    if not made:
        raise DataError(f"no trajectory is usable: {dict(counts)}", where=where,
                        fix="collect more, or keep wrong answers too with --all-answers")


def read_card(folder: Path) -> DatasetCard:
    """The card of a data set folder."""
    path = folder / CARD
    if not path.is_file():
        raise DataError("there is no data set here", where=folder, fix="make one: python -m training.dataset --out DIR")
    try:
        return DatasetCard.model_validate_json(path.read_bytes())
    except ValidationError as bad:
        what = f"not a data set's card: {bad.errors()[0]['msg']}"
        raise DataError(what, where=path, fix="make the data set again") from bad


class Dataset(NamedTuple):
    """What a data set folder holds."""

    trajectories: list[list[Example]]
    """Of every trajectory, its examples."""
    question_ids: list[str]
    """Of every trajectory, its question; a teacher may have answered one several times."""


def load_dataset(folder: Path) -> Dataset:
    """Checked against the card.

    Raises:
        DataError: the folder is no data set, or its examples are not those the card describes.
    """
    card, path = read_card(folder), folder / EXAMPLES
    if not path.is_file() or digest_file(path) != card.digest:
        raise DataError("the examples are not those the card describes", where=path, fix="make the data set again")
    data = Dataset([], [])
    with path.open(encoding="utf-8") as file:
        for line in file:
            told = json.loads(line)
            data.question_ids.append(told["question_id"])
            # The digest vouches for what was written, and validating millions of ids one by one takes minutes.
            data.trajectories.append([Example.model_construct(**{**one, "ids": tuple(one["ids"]), "learn": tuple(one["learn"])})
                                      for one in told["examples"]])
    return data


if __name__ == "__main__":
    from training.verb import run

    sys.exit(run(main))
