"""Make a training set from journals: python -m training.dataset --journal FILE… --base DIR --out DIR

Reads what the graph wrote, keeps the trajectories that are worth teaching, and writes token ids with a card that says what was
kept, what was left out and why. The same journals make any view, with any filters, at no teacher's cost; each goes into a
folder of its own. `distill` reads nothing else.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from steper_agent.config import Config, command_line, parted
from steper_agent.durable import digest, digest_file, write_atomic
from steper_agent.errors import ConfigError, DataError, JournalError
from steper_agent.journal import trajectories
from steper_agent.records import KINDS, Example, Kind, Trajectory, View
from steper_agent.retrieval import read_questions
from training.examples.dataset_folder import CARD, EXAMPLES, DatasetCard, JournalPart, read_card
from training.examples.filters import filters_for, first_reason, recipes_of
from training.examples.held_out import HeldOut, near_told
from training.examples.labels import REWRITTEN, with_likely
from training.examples.lengths import Tally, window_for
from training.examples.rivals import RIVALS, check_kinds, filters_of, fits_for
from training.examples.share import ALL, share_of
from training.examples.views import Target, Teaching, check_template
from training.run_folder import SETTINGS, claim

OTHER_KINDS = "no step of these kinds"

OnProgress = Callable[[int, int], None]
OnPlan = Callable[[Sequence[str]], None]


class DatasetConfig(Config):
    journal: tuple[Path, ...] = Field(description="journals written by training.collect; several of one recipe make one data set")
    base: Path = Field(description="folder of the base model the student starts from; its tokenizer makes the ids")
    out: Path = Field(description="folder for the data set")
    view: View = Field("stepwise", description="stepwise: one example a step; vanilla: the last step's only; single_step, chain_of_note, "
                                               "sail, self_rag: the chain as these rivals would tell it (docs/comparison.md)")
    ungrounded: bool = Field(False, description="rivals that search once: also teach what their one search does not find")
    kinds: Annotated[tuple[Kind, ...], BeforeValidator(parted)] = Field(KINDS, min_length=1, description="kinds of step that make examples, parted by commas")
    target: Target = Field("cumulative", description="cumulative: learn all lines so far; incremental: the step's own, for tool_calling")
    max_length: int = Field(0, ge=0, description="tokens; a longer example loses its oldest unneeded passages; 0: the base's context, up to 4096")
    max_dropped: float = Field(0.2, ge=0, le=1, description="share of examples that may be too long, or scored in other tokens; more is an error")
    all_answers: bool = Field(False, description="keep trajectories with a wrong answer too")
    supported: bool = Field(False, description="keep chains only whose names and numbers stand in what they read: no lucky answers")
    contributing: bool = Field(False, description="keep chains only whose every step contributed to the answer")
    dedupe: bool = Field(False, description="keep the first of equal chains of equal questions")
    held_out: tuple[Path, ...] = Field((), description="files of questions used for evaluation: what is in them is not taught")
    teacher: Path | None = Field(None, description="folder of the teacher: keep its log-probabilities (collect --logprobs, --score), "
                                                    "for distill --kl; its tokenizer must be the base's")
    allow_mixed_recipes: bool = Field(False, description="take trajectories made with other prompts, k, budget, index or teacher together")
    take: str = Field(ALL, description="all, a part (1/4) or a number of the journals' trajectories, before any is left out: the first of a drawn order")
    take_seed: int = Field(0, description="of that order; with one seed a smaller part lies in a larger one")
    dry_run: bool = Field(False, description="print what would be made, trimmed and dropped, and write nothing")

    @field_validator("kinds")
    @classmethod
    def _in_order(cls, given: tuple[Kind, ...]) -> tuple[Kind, ...]:
        """Each once, so that one choice has one spelling."""
        return tuple(kind for kind in KINDS if kind in given)


FREE = ("out", "max_dropped", "dry_run")
"""Settings that change nothing in a data set."""
LATER = ("take", "take_seed")
"""Settings that older folders do not know; where all is taken they say nothing."""


class Begun(DatasetConfig):
    """What a folder's data set was made with."""

    fingerprint: str
    """Of the base."""
    journal_contents: str
    """Digest of all journals and files of questions as they were read."""


def main(argv: Sequence[str] | None = None) -> int:
    from training.verb import progress

    config = command_line(DatasetConfig, "dataset", __doc__ or "", argv)
    with progress() as bar:
        task = bar.add_task("trajectories")

        def show(plan: Sequence[str]) -> None:
            bar.stop()
            print("\n".join(plan))

        card = build(config, on_progress=lambda done, total: bar.update(task, completed=done, total=total), on_plan=show)
    counts = dict(card.trajectories)
    read, kept = counts.pop("read"), counts.pop("kept")
    left_out = "".join(f"; {count} left out: {reason}" for reason, count in counts.items())
    kinds = ", ".join(f"{count} {kind}" for kind, count in card.examples.items())
    print(f"{kept} of {read} trajectories, {card.tokens} tokens: {kinds}{left_out}")
    for warning in card.warnings:
        print(f"warning: {warning}")
    print("nothing is written" if config.dry_run else f"written to {config.out}")
    return 0


def build(config: DatasetConfig, *, on_progress: OnProgress | None = None, on_plan: OnPlan | None = None) -> DatasetCard:
    """Write the data set and return its card; where the folder has it already, only read that. A dry run writes nothing.

    `on_plan` is told the length plan, in lines, before anything is written or refused for its length.

    Raises:
        ConfigError: `max_length` is beyond the base's context, its tokenizer does not fit its template, the journals mix recipes,
            or the folder holds another data set.
        DataError: no usable trajectory, or more examples than `max_dropped` do not fit or were scored in other tokens.
    """
    teaching = _teaching(config)
    begun = _begun(config)
    on_plan = on_plan or (lambda _plan: None)
    if not config.dry_run and (config.out / SETTINGS).exists():
        claim(config.out, begun, free=free_of(config))
        if done := _finished(config.out):
            on_plan(done.plan)
            return done
    card, lines = _make(config, begun, teaching, on_progress)
    on_plan(card.plan)
    _refuse_poor(config, card)
    if not config.dry_run:
        claim(config.out, begun, free=free_of(config))
        write_atomic(config.out / EXAMPLES, "".join(lines))
        write_atomic(config.out / CARD, card.model_dump_json(indent=1) + "\n")
    return card


def _teaching(config: DatasetConfig) -> Teaching:
    from steper_agent.models.loading import open_tokenizer, open_vocabulary, same_vocabulary

    check_kinds(config.view, config.kinds, "kinds")
    if config.teacher and config.view in RIVALS:
        raise ConfigError(f"the teacher's log-probabilities are of its own words, not of the {config.view} view's", where="teacher",
                          fix="leave --teacher out, or take --view stepwise")
    vocabulary = open_vocabulary(config.base)
    check_template(vocabulary.tokenizer, config.base)
    if config.teacher and (differs := same_vocabulary(open_tokenizer(config.teacher), vocabulary.tokenizer)):
        raise ConfigError(f"the teacher's token ids are not the base's: {differs}", where=config.teacher,
                          fix="leave --teacher out and learn from its words, or take a base with its tokenizer")
    return Teaching(vocabulary.tokenizer, config.view, config.target, window_for(config.max_length, vocabulary.window, config.base), config.kinds)


def _begun(config: DatasetConfig) -> Begun:
    from steper_agent.students.fingerprint import base_fingerprint

    fingerprint = base_fingerprint(config.base)
    for path in config.journal:
        if not path.is_file():
            raise JournalError("there is no journal here", where=path, fix="run: python -m training.collect --out FOLDER")
    for path in config.held_out:
        if not path.is_file():
            raise DataError("no such file of questions", where=path, fix="check --held-out")
    journals, held_out = [digest_file(path) for path in config.journal], [digest_file(path) for path in config.held_out]
    twice = next((path for path, content in zip(config.journal, journals, strict=True) if journals.count(content) > 1), None)
    if twice:
        raise ConfigError("the same journal is given twice", where=twice, fix="give each once: twice would weigh it double")
    return Begun(**config.model_dump(), fingerprint=fingerprint, journal_contents=digest([journals, held_out]))


def free_of(config: DatasetConfig) -> tuple[str, ...]:
    """Settings that may differ from those of the data set that a folder has."""
    return FREE + LATER if config.take == ALL else FREE


def _finished(folder: Path) -> DatasetCard | None:
    """The card of a whole data set; one that was cut short or damaged is made again."""
    try:
        card = read_card(folder)
    except DataError:
        return None
    path = folder / EXAMPLES
    return card if path.is_file() and digest_file(path) == card.digest else None


def _make(config: DatasetConfig, begun: Begun, teaching: Teaching, on_progress: OnProgress | None) -> tuple[DatasetCard, list[str]]:
    """The card, and a line for every trajectory that is kept."""
    journals = {path: trajectories(path) for path in config.journal}
    read = [(path, trajectory) for path, told in journals.items() for trajectory in told]
    recipes = recipes_of(journals, mixed=config.allow_mixed_recipes)
    held_out = HeldOut.of(question for path in config.held_out for question in read_questions(path))
    filters = share_of([told for _, told in read], config.take, config.take_seed) | filters_for(held_out, correct=not config.all_answers, supported=config.supported, contributing=config.contributing,
                          dedupe=config.dedupe) | filters_of(config.view, ungrounded=config.ungrounded)
    whole, parts = Tally(config.kinds), {path: Tally(config.kinds) for path in journals}
    lines, near, likely = list[str](), list[str](), 0
    for done, (path, trajectory) in enumerate(read, start=1):
        reason = first_reason(trajectory, filters.values())
        fits = [] if reason else fits_for(trajectory, len(lines), teaching)
        examples = [_told(fit.example, trajectory, config.teacher) for fit in fits if fit.example]
        reason = reason or ("" if examples else fits[0].reason if fits else OTHER_KINDS)
        for tally in (whole, parts[path]):
            tally.add(reason, fits)
        likely += sum(example.likely is not None for example in examples)
        if not reason:
            lines.append(_line(len(lines), trajectory, examples))
            near += held_out.near(trajectory.question)
        if on_progress:
            on_progress(done, len(read))
    dropped = sum((Counter(cut.dropped) for cut in whole.cuts.values()), Counter[str]())
    card = DatasetCard(
        view=config.view, kinds=config.kinds, target=config.target, base=begun.fingerprint, max_length=teaching.max_length,
        filters=tuple(filters), held_out={str(path): digest_file(path) for path in config.held_out}, recipes=recipes,
        journals=tuple(_part(path, told, parts[path]) for path, told in journals.items()), allow_mixed_recipes=config.allow_mixed_recipes,
        trajectories=dict(whole.trajectories), examples=whole.examples, examples_trimmed=sum(cut.trimmed for cut in whole.cuts.values()),
        examples_too_long=dropped.total() - dropped[REWRITTEN], examples_rewritten=dropped[REWRITTEN], examples_with_likely=likely,
        cuts=whole.cuts, lengths=whole.lengths,
        tokens=whole.tokens, learned_tokens=whole.learned, plan=whole.told(teaching.max_length), warnings=near_told(near),
        digest=hashlib.sha256("".join(lines).encode()).hexdigest(),
    )  # fmt: skip
    return card, lines


def _told(example: Example, trajectory: Trajectory, teacher: Path | None) -> Example:
    """The example with its teacher's log-probabilities, if they are wanted."""
    if teacher:
        return example if trajectory.labels else with_likely(example, trajectory.likely.get(example.step))
    if not any(example.learn):
        raise ConfigError("this journal's turns were scored: they teach by the teacher's log-probabilities alone", where="teacher",
                          fix="give the teacher's folder with --teacher")
    return example.model_copy(update={"likely": None})


def _part(path: Path, told: Sequence[Trajectory], tally: Tally) -> JournalPart:
    return JournalPart(path=path, digest=digest_file(path), recipes=tuple(sorted({one.recipe for one in told})),
                       models=tuple(sorted({one.model for one in told})), trajectories=dict(tally.trajectories), examples=tally.examples,
                       rounds=dict(Counter(max((label.round for label in one.labels), default=0) for one in told)))


def _line(row: int, trajectory: Trajectory, examples: Sequence[Example]) -> str:
    """Examples are written by pydantic, for json takes five times as long over millions of ids."""
    told = ",".join(example.model_dump_json(exclude_none=True) for example in examples)
    return f'{{"trajectory":{row},"question_id":{json.dumps(trajectory.question.id)},"examples":[{told}]}}\n'


def _refuse_poor(config: DatasetConfig, card: DatasetCard) -> None:
    where = ", ".join(str(path) for path in config.journal)
    made = sum(card.examples.values())
    wanted = made + card.examples_too_long + card.examples_rewritten
    if card.examples_too_long > config.max_dropped * wanted:
        raise DataError(f"{card.examples_too_long} of {wanted} examples exceed {card.max_length} tokens",
                        where=where, fix="raise --max-length, collect with a smaller k, or allow it with --max-dropped")
    if card.examples_rewritten > config.max_dropped * wanted:
        raise DataError(f"{card.examples_rewritten} of {wanted} examples are {REWRITTEN}",
                        where=where, fix="score the turns of a student with this base's tokenizer, or allow it with --max-dropped")
    if not made:
        raise DataError(f"no trajectory is usable: {card.trajectories}", where=where,
                        fix="collect more, leave out a filter, or keep wrong answers too with --all-answers")


if __name__ == "__main__":
    from training.verb import run

    sys.exit(run(main))
