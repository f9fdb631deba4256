"""Two models' chains of the same questions, side by side: python -m training.chain_diff --a JOURNAL --b JOURNAL [--question ID] [--only-wrong]

Shows the first thing in which b leaves a (the query, what it found, the line, or the answer), question by question, and counts where
that happens: a student (b) beside its teacher (a). Wording does not count: two lines are the same if they hold the same words but for
order, stop words and case; with --exact they must be equal to the letter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field
from rich.table import Table
from rich.text import Text

from graphs.evidence import words
from steper_agent.config import Config, command_line
from steper_agent.durable import write_atomic
from steper_agent.errors import DataError
from steper_agent.plain import plain
from steper_agent.records import Record, Step, Trajectory
from training.scores.metrics import best, em
from training.verb import run, wide_console

Part = Literal["query", "hits", "line", "answer"]
PARTS: tuple[Part, ...] = get_args(Part)


class ChainDiffConfig(Config):
    a: Path = Field(description="journal of the one that is followed, such as the teacher")
    b: Path = Field(description="journal of the one that leaves it, such as the student")
    question: str = Field("", description="show only this question, by its id")
    only_wrong: bool = Field(False, description="only questions that b answers wrongly")
    exact: bool = Field(False, description="let a difference in wording count")
    show: int = Field(3, ge=0, description="questions shown side by side; the counts are over all")
    json_: Path | None = Field(None, description="write every question's first difference here")


class Departure(Record):
    """Where b's chain first leaves a's."""

    question_id: str
    step: int | None
    """Counted from 1; None of an answer that differs behind equal steps."""
    part: Part
    a: str
    """What a has there; of hits, the ids of passages that b does not have. Empty where a had ended."""
    b: str
    steps: tuple[int, int]
    """Of a and of b."""
    right: tuple[bool, bool] | None
    """Whether a's and b's answers are right; None if nobody knows."""


class Departures(Record):
    """Many questions."""

    questions: int
    same: int
    """Questions whose chains do not differ."""
    departures: tuple[Departure, ...]


Same = Callable[[str, str], bool]


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(ChainDiffConfig, "chain_diff", __doc__ or "", argv)
    pairs = paired(config.a, config.b)
    chosen = [pair for pair in pairs if config.question in ("", pair[0].question.id) and not (config.only_wrong and _right(pair[1]) is not False)]
    if not chosen:
        raise DataError("no question of both journals is left", where=config.b, fix="look at --question and --only-wrong")
    found = departures(chosen, exact=config.exact)
    console, left = wide_console(), {one.question_id: one for one in found.departures}
    for a, b in [pair for pair in chosen if config.question or pair[0].question.id in left][: config.show]:
        console.print(side_by_side(a, b, left.get(a.question.id)))
    console.print(*counted(found))
    if config.json_:
        write_atomic(config.json_, json.dumps(found.model_dump(mode="json"), indent=1) + "\n")
    return 0


def paired(a: Path, b: Path) -> list[tuple[Trajectory, Trajectory]]:
    """The runs of the questions that both journals hold, in b's order; of a question's several runs the last.

    Raises:
        JournalError: a journal is missing or damaged.
        DataError: they have no question in common.
    """
    from steper_agent.journal import trajectories

    firsts, seconds = ({one.question.id: one for one in trajectories(path)} for path in (a, b))
    common = [(firsts[id], second) for id, second in seconds.items() if id in firsts and firsts[id].question.text == second.question.text]
    if not common:
        raise DataError("the journals have no question in common", where=f"{a}, {b}", fix="give two journals of the same questions file")
    return common


def departures(pairs: Sequence[tuple[Trajectory, Trajectory]], *, exact: bool = False) -> Departures:
    found = [one for a, b in pairs if (one := departure(a, b, exact=exact))]
    return Departures(questions=len(pairs), same=len(pairs) - len(found), departures=tuple(found))


def departure(a: Trajectory, b: Trajectory, *, exact: bool = False) -> Departure | None:
    """The first difference; None if there is none. A step that one of them does not have has no query."""
    same: Same = str.__eq__ if exact else same_words
    step, part, one, other = next(_differences(a, b, same), (None, None, "", ""))
    if part is None:
        return None
    known = (_right(a), _right(b))
    right = (known[0], known[1]) if known[0] is not None and known[1] is not None else None
    return Departure(question_id=b.question.id, step=step, part=part, a=one, b=other, steps=(len(a.steps), len(b.steps)), right=right)


def same_words(one: str, other: str) -> bool:
    return one == other or (words(one) == words(other) and bool(words(one)))


def _differences(a: Trajectory, b: Trajectory, same: Same) -> Iterator[tuple[int | None, Part, str, str]]:
    for number, (one, other) in enumerate(zip_longest(a.steps, b.steps), start=1):
        for part, of_a, of_b in _parts(one, other):
            if not same(of_a, of_b):
                yield number, part, of_a, of_b
    if not same(a.answer, b.answer):
        yield None, "answer", a.answer, b.answer


def _parts(one: Step | None, other: Step | None) -> Iterator[tuple[Part, str, str]]:
    yield "query", one.query if one else "", other.query if other else ""
    own, theirs = _ids(one), _ids(other)
    yield "hits", ", ".join(sorted(own - theirs)), ", ".join(sorted(theirs - own))
    yield "line", one.rationale if one else "", other.rationale if other else ""


def _ids(step: Step | None) -> set[str]:
    return {hit.passage.id for hit in step.hits} if step else set()


def _right(trajectory: Trajectory) -> bool | None:
    accepted = trajectory.question.answers
    return best(em, trajectory.answer, accepted) == 1 if accepted else None


def side_by_side(a: Trajectory, b: Trajectory, left: Departure | None = None) -> Table:
    """Both chains, step by step; the part in which b leaves a is bold."""
    table = Table("", f"a: {plain(a.model)}", f"b: {plain(b.model)}", title=Text(plain(b.question.text)), show_lines=True)
    for number, (one, other) in enumerate(zip_longest(a.steps, b.steps), start=1):
        for part, of_a, of_b in (
            ("query", one.query if one else "", other.query if other else ""), ("hits", _titles(one), _titles(other)),
            ("line", one.rationale if one else "", other.rationale if other else ""),
        ):  # fmt: skip
            table.add_row(f"{number} {part}", *_cells(of_a, of_b, is_left=left is not None and (left.step, left.part) == (number, part)))
    table.add_row("answer", *_cells(a.answer, b.answer, is_left=left is not None and left.part == "answer"))
    table.add_row("right", *(Text({True: "yes", False: "no", None: "unknown"}[_right(one)]) for one in (a, b)))
    return table


def _titles(step: Step | None) -> str:
    return "; ".join(hit.passage.title for hit in step.hits) if step else ""


def _cells(a: str, b: str, *, is_left: bool) -> tuple[Text, Text]:
    return Text(plain(a)), Text(plain(b), style="bold red" if is_left else "")


def counted(found: Departures) -> tuple[Table, str]:
    """How often b leaves a in which step, and by what; and the sum in words."""
    times = Counter((one.step, one.part) for one in found.departures)
    table = Table("step", *PARTS, "all", title="where b first leaves a")
    for step in sorted({one.step for one in found.departures}, key=lambda step: (step is None, step or 0)):
        row = [times[step, part] for part in PARTS]
        table.add_row("end" if step is None else str(step), *(str(count or "") for count in row), str(sum(row)))
    lost = sum(one.right == (True, False) for one in found.departures)
    told = f"{found.questions} questions, {found.same} with the same chain, {len(found.departures)} left; {lost} of these right in a and wrong in b"
    return table, told


if __name__ == "__main__":
    raise SystemExit(run(main))
