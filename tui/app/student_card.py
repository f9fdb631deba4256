"""A registry's students as they are read and drawn: a row of the table, the card, the history, what sets two apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable

from steper_agent.errors import AdapterError, StepERError, told
from steper_agent.records import StudentCard, StudentEvent
from steper_agent.students.standing import Roll, Standing, fold
from tui.app.text import one_line, shown

if TYPE_CHECKING:
    from steper_agent.students.compare import Difference, Fact
    from steper_agent.students.registry import Registry

STATES = {"candidate": "○ candidate", "live": "◆ live", "retired": "◇ retired"}
COLUMNS = ("student", "here", "state", "EM", "added", "data", "base", "created by")
BAR, EVENTS, MODULES = 16, 50, 20
"""Characters of the longest bar; events and modules that are shown."""
ABOUT = """\
A student is a small model, most often an adapter of its base, that was taught by a teacher's trajectories. A registry keeps
students and knows which of them is live. To make one, from an index and questions with answers:

  python -m training.collect --index runs/index --questions train.jsonl --teacher openai:gpt-4o --out runs/collect
  python -m training.dataset --journal runs/collect/journal.jsonl --base models/small --out runs/dataset
  python -m training.distill --dataset runs/dataset --base models/small --out runs/distill
  steper students add runs/distill/student --base models/small

It appears here as soon as it is added."""


class StudentTable(DataTable[Text]):
    """Its Enter comes in its turn, behind the arrows that were pressed before it: a binding with priority would overtake them and take
    the row they leave. A second click on a row, which selects it too, is no Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "take", "Swap here")]

    class Taken(Message):
        """Enter was pressed on a row."""

    def action_take(self) -> None:
        self.post_message(self.Taken())


class Known(NamedTuple):
    """A student as the pane knows it."""

    standing: Standing
    card: StudentCard | None
    fault: str
    """Why there is no card."""


class Seen(NamedTuple):
    """A registry as it was read."""

    roll: Roll
    students: dict[str, Known]
    """By name, the newest first."""
    events: list[StudentEvent]


def read_students(registry: Registry, cards: dict[str, StudentCard]) -> Seen:
    """A registry as it is now. Blocks. A student is what its name says, so a card that was read once is not read again.

    Raises:
        JournalError: the history cannot be read.
    """
    history = registry.history.read()
    roll = fold(history, registry.folder)
    return Seen(roll, {name: _known(registry, roll.students[name], cards.get(name)) for name in reversed([*roll.students])}, history)


def read_difference(registry: Registry, a: str, b: str) -> Difference:
    """What sets two students apart, once both are found whole. Blocks.

    Raises:
        AdapterError: one of them is damaged or gone.
    """
    from steper_agent.students.compare import compare

    return compare(*(registry.path_of(registry.verify(name).name) for name in (a, b)))


def glance(registry: Registry) -> tuple[int, int, int] | str | None:
    """What changes when the history does: one look at its file's date and size, or why there is none."""
    try:
        return registry.history.signature()
    except OSError as unreadable:
        return words_of(unreadable)


def card_content(known: Known) -> Content:
    """What is known of a student, a fact a line, then σ by kind as bars."""
    standing, card = known.standing, known.card
    facts = [("name", standing.name), ("state", STATES[standing.state]), ("base", standing.base[:12])]
    if card is None:
        facts.append(("card", f"✗ {known.fault}"))
    else:
        facts += [("form", card.form), ("target", card.target), ("view", card.view), ("weighting", card.weighting),
                  ("parameters", f"{card.parameters:,}"), ("data", card.data[:12]), ("created by", card.created_by)]  # fmt: skip
    facts.append(("scores", figures(standing.scores) or "none"))
    lines = [_fact(name, words) for name, words in facts]
    if card and card.sigma:
        largest = max((value for value in card.sigma.values() if math.isfinite(value)), default=0.0)
        lines += [_fact(f"σ {kind}", f"{bar(value, largest)} {figure(value)}") for kind, value in card.sigma.items()]
    return Content("\n").join(lines)


def history_content(happened: list[StudentEvent]) -> Content:
    """Events, the newest first, each with who did it and why, in full."""
    lines = [Content.styled("history (UTC), the newest first" if happened else "nothing has happened to it", "bold")]
    for event in reversed(happened[-EVENTS:]):
        lines.append(Content.assemble(f"{event.time:%Y-%m-%d %H:%M:%S}  ", (event.action.replace("_", " "), "bold"),
                                      f"  by {one_line(event.by, 80)}"))  # fmt: skip
        why = [shown(event.reason), figures(event.scores)]
        lines += [Content(f"    {line}") for part in why if part for line in part.splitlines()]
    if len(happened) > EVENTS:
        lines.append(Content(f"and {len(happened) - EVENTS} before that: steper students history"))
    return Content("\n").join(lines)


def difference_content(a: str, b: str, found: Difference) -> Content:
    """The facts that differ, then the modules that changed most on the way from `a` to `b`."""
    lines = [Content.styled(f"{one_line(a, 60)} → {one_line(b, 60)}", "bold"), *map(_differing, found.facts)]
    if not found.facts:
        lines.append(Content("the cards say the same"))
    if not found.modules:
        lines.append(Content("weights are compared between adapters of one base"))
        return Content("\n").join(lines)
    lines.append(Content.styled("modules, the largest change first", "bold"))
    largest = max((each.change for each in found.modules if math.isfinite(each.change)), default=0.0)
    for module, change in found.modules[:MODULES]:
        share = f"{change:.1%}" if math.isfinite(change) else "new"
        lines.append(Content(f"{share:>6} {bar(change, largest, BAR // 2):<{BAR // 2}} {one_line(module, 120)}"))
    if len(found.modules) > MODULES:
        lines.append(Content(f"and {len(found.modules) - MODULES} more with less change"))
    return Content("\n").join(lines)


def row_of(known: Known, *, is_serving: bool, is_marked: bool) -> list[Text]:
    """The cells of a student's row, one for each of `COLUMNS`."""
    standing, card = known.standing, known.card
    em = standing.scores.get("em")
    facts = (
        f"{'✓' if is_marked else ' '} {digits(standing.name)}", "● serving" if is_serving else "", STATES[standing.state],
        "–" if em is None else figure(em), f"{standing.added:%Y-%m-%d}", card.data[:8] if card else "–", standing.base[:8],
        card.created_by if card else f"✗ {known.fault}",
    )  # fmt: skip
    # Its first cell is aligned by spaces, which `one_line` would take.
    return [Text(facts[0]), *(Text(one_line(fact, 80)) for fact in facts[1:])]


def digits(name: str) -> str:
    """The first of a student's hash: enough to name it on the command line."""
    return one_line(name.removeprefix("student@")[:8])


def figures(values: Mapping[str, float]) -> str:
    return ", ".join(f"{one_line(name, 40)} {figure(value)}" for name, value in values.items())


def figure(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10_000 else f"{value:.3g}"


def bar(value: float, largest: float, most: int = BAR) -> str:
    """As long as the value is large: `most` characters for the largest and what is above it, none for what is not above 0."""
    return "█" * max(1, round(most * min(value / largest, 1.0))) if value > 0 and largest > 0 else ""


def words_of(error: BaseException) -> str:
    """What a person reads of whatever went wrong."""
    if isinstance(error, StepERError) or isinstance(error, OSError) and error.strerror is not None:
        return told(error)
    return f"{type(error).__name__}: {error}"


def _known(registry: Registry, standing: Standing, card: StudentCard | None) -> Known:
    try:
        return Known(standing, card or registry.card(standing.name), "")
    except AdapterError as damaged:
        return Known(standing, None, damaged.what)


def _fact(name: str, words: str) -> Content:
    return Content.assemble((f"{name:<18}", "bold"), one_line(words))


def _differing(fact: Fact) -> Content:
    a, b = (figures(side) if isinstance(side, dict) else str(side) for side in fact[1:])
    most = 12 if fact.name in ("base", "data") else 120
    return _fact(fact.name.replace("_", " "), f"{one_line(a, most) or 'none'} → {one_line(b, most) or 'none'}")
