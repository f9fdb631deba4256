"""The same question answered by several models side by side, step beside step, and what differs from the first of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Sequence
from contextlib import aclosing
from difflib import SequenceMatcher
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Grid, Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from steper_agent.errors import StepERError
from steper_agent.records import Exchange, Step
from tui.app.chain import facts_of
from tui.app.composer import Composer
from tui.app.desk import Choice, Desk
from tui.app.field import Field
from tui.app.messages import Account, Asked, Found, Reasoned
from tui.app.text import inert, one_line, shown

ROLES = ("teacher", "base", "student")
HINT = "Ask all of them the same question. Columns without a model are left out; enter in a column's field asks again."
SIGNS = "Against the first column: = same  ≠ other words underlined  + in one only"
QUERY, RATIONALE, ANSWER = 300, 600, 600
"""Most characters of each."""
NOTHING = Step(query="", hits=(), rationale="")
WORD = re.compile(r"\w+|[^\w\s]")


class ComparePane(Container):
    """One column a model. Models are asked at once; a column that fails says why and the others go on."""

    DEFAULT_CSS = """
    ComparePane .models { height: auto; }
    ComparePane .models > Input { width: 1fr; }
    ComparePane .row { height: auto; grid-rows: auto; }
    ComparePane .row > Static { height: 100%; padding: 0 1 1 1; border-left: solid $surface-lighten-2; }
    ComparePane .row > AnswerCell:focus { border-left: thick $accent; }
    ComparePane #signs { height: auto; padding: 0 1; color: $text-muted; }
    ComparePane #question { padding: 0 1 1 1; text-style: bold; }
    ComparePane #rows { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "stop", "Stop")]

    class Compared(Message):
        """All columns are over, in their order."""

        def __init__(self, exchanges: list[Exchange]) -> None:
            super().__init__()
            self.exchanges = exchanges

    def __init__(self, desk: Desk, choice: Choice, models: tuple[str, ...]) -> None:
        super().__init__()
        self.desk = desk
        self.choice = choice
        self._models = models
        self._asked = ""
        """The question before, which a changed column is asked again."""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="models"):
            for number, role in enumerate(ROLES):
                given = self._models[number] if number < len(self._models) else ""
                yield Field(given, placeholder=f"{role}: a model, or empty", id=role, compact=True)
        yield VerticalScroll(Static(HINT, markup=False), id="rows")
        yield Composer()

    @property
    def choices(self) -> list[Choice]:
        """How each column that has a model is answered: the base as it is, though a student may sit in its seat."""
        given = {role: self.query_one(f"#{role}", Input).value.strip() for role in ROLES}
        return [self.choice.model_copy(update={"model": model, "bare": role == "base"}) for role, model in given.items() if model]

    async def show(self, asked: str, exchanges: Sequence[Exchange]) -> None:
        """Exchanges that are over, as if they had just been answered."""
        table = await self._begin(asked, [exchange.trajectory.model for exchange in exchanges])
        for column, exchange in enumerate(exchanges):
            await table.steps(column, exchange.trajectory.steps)
            await table.end(column, exchange)

    def on_composer_sent(self, sent: Composer.Sent) -> None:
        sent.stop()
        self.ask(sent.text)

    @on(Input.Submitted)
    def _again(self, submitted: Input.Submitted) -> None:
        submitted.stop()
        self.ask(self._asked) if self._asked else self.query_one(Composer).focus()

    def ask(self, asked: str) -> None:
        """Ask all of them; who is still answering another question stops."""
        self._asked = asked
        choices = self.choices
        if not choices:
            self.notify("Name a model in at least one column.", severity="warning")
            return
        self.run_worker(self._compare(asked, choices), group="compare", exclusive=True, exit_on_error=False)

    def action_stop(self) -> None:
        self.workers.cancel_group(self, "compare")

    async def _begin(self, asked: str, models: Sequence[str]) -> Table:
        rows = self.query_one("#rows", VerticalScroll)
        await rows.remove_children()
        await rows.mount(Static(inert(asked), id="question", markup=False))
        if len(models) > 1:
            await rows.mount(Static(SIGNS, id="signs", markup=False))
        table = Table(rows, models)
        await table.heads()
        return table

    async def _compare(self, asked: str, choices: list[Choice]) -> None:
        table = await self._begin(asked, [choice.model for choice in choices])
        exchanges = await asyncio.gather(*(self._answer(asked, choice, column, table) for column, choice in enumerate(choices)))
        self.post_message(self.Compared(exchanges))

    async def _answer(self, asked: str, choice: Choice, column: int, table: Table) -> Exchange:
        account, began, note = Account(asked, model=choice.model, strategy=choice.strategy), time.perf_counter(), ""
        try:
            async with aclosing(self.desk.ask(asked, (), choice)) as happenings:
                async for happening in happenings:
                    account.add(happening)
                    if isinstance(happening, Asked | Found | Reasoned):
                        await table.steps(column, account.steps)
        except asyncio.CancelledError:
            table.stop(column)
            raise
        except StepERError as refused:
            note = str(refused)
        except Exception as failed:
            # A provider's client may raise anything; the other columns go on.
            note = f"the run failed: {type(failed).__name__}: {failed}"
        exchange = account.exchange(time.perf_counter() - began, note)
        await table.end(column, exchange)
        return exchange


class AnswerCell(Static, can_focus=True):
    """What a column came to; its answer can be copied."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("c", "copy", "Copy answer")]

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self.answer = ""

    def action_copy(self) -> None:
        if self.answer:
            self.app.copy_to_clipboard(shown(self.answer))
            self.notify("The answer is in the clipboard.")


class Table:
    """Rows of cells: who answers, each step, the answer. What a column says is held against the first column, so a row is drawn
    again when any of its cells comes further."""

    def __init__(self, place: VerticalScroll, models: Sequence[str]) -> None:
        self._place = place
        self._models = tuple(models)
        self._rows: dict[str, list[Static]] = {}
        self._last: Grid | None = None
        """The row of answers, which stays below all steps."""
        self._steps: list[tuple[Step, ...]] = [()] * len(models)
        self._over: list[Exchange | None] = [None] * len(models)
        self._stopped: set[int] = set()

    async def heads(self) -> None:
        await self._row("model", [Static("", markup=False) for _ in self._models])
        self._draw_heads()

    async def steps(self, column: int, steps: Sequence[Step]) -> None:
        """A column has come as far as these steps."""
        for number in range(1, len(steps) + 1):
            await self._row(f"step {number}", [Static("", markup=False) for _ in self._models])
        # Not before its rows are there: another column may draw meanwhile.
        self._steps[column] = tuple(steps)
        self._draw_steps()

    async def end(self, column: int, exchange: Exchange) -> None:
        """A column is over, well or not."""
        self._over[column] = exchange
        await self._row("answer", [AnswerCell() for _ in self._models])
        self._draw_heads()
        self._draw_steps()
        self._draw_answers()

    def stop(self, column: int) -> None:
        self._stopped.add(column)
        self._draw_heads()

    async def _row(self, name: str, cells: list[Static]) -> None:
        if name in self._rows:
            return
        row, self._rows[name] = Grid(*cells, classes="row"), cells
        row.styles.grid_size_columns = len(cells)
        mounted = self._place.mount(row, before=self._last)
        self._last = row if name == "answer" else self._last
        await mounted

    def _draw(self, name: str, column: int, content: Content) -> None:
        self._rows[name][column].update(Content.assemble((f"{name}\n", "dim"), content))

    def _draw_heads(self) -> None:
        for column, (asked, over, cost) in enumerate(zip(self._models, self._over, costs(self._over), strict=True)):
            # A student may sit in the seat of the model that is named.
            served = f"\nserved by {one_line(over.trajectory.model)}" if over and over.trajectory.model != asked else ""
            said = cost or ("stopped" if column in self._stopped else "… answering")
            self._draw("model", column, Content.assemble((one_line(asked), "bold"), served, f"\n{said}"))

    def _draw_steps(self) -> None:
        for number in range(1, max(map(len, self._steps)) + 1):
            for column in range(len(self._models)):
                self._draw(f"step {number}", column, self._cell(column, number))

    def _cell(self, column: int, number: int) -> Content:
        step = self._step(column, number)
        if step is None:
            return Content("…")
        if step is NOTHING:
            return Content(f"(no step {number})")
        if self._whole(column, number) is None:
            return step_cell(step.model_copy(update={"rationale": "…"}), None, None)
        beside = [self._whole(other, number) for other in ([0] if column else range(1, len(self._models)))]
        is_known = bool(beside) and None not in beside
        found = {hit.passage.id for one in beside if one for hit in one.hits}
        return step_cell(step, beside[0] if column and is_known else None, found if is_known else None)

    def _step(self, column: int, number: int) -> Step | None:
        """`NOTHING` where the column has no such step; None where nobody knows yet."""
        if number <= len(self._steps[column]):
            return self._steps[column][number - 1]
        return NOTHING if self._over[column] else None

    def _whole(self, column: int, number: int) -> Step | None:
        """The same, and None while the step is under way: what is not said yet is no difference."""
        step = self._step(column, number)
        is_under_way = number == len(self._steps[column]) and not self._over[column] and step and not step.rationale
        return None if is_under_way else step

    def _draw_answers(self) -> None:
        for column, (exchange, cell) in enumerate(zip(self._over, self._rows["answer"], strict=True)):
            if exchange and isinstance(cell, AnswerCell):
                cell.answer = exchange.trajectory.answer
            self._draw("answer", column, answer_cell(exchange, self._over[0] if column else None) if exchange else Content("…"))


def step_cell(step: Step, first: Step | None, found: Collection[str] | None) -> Content:
    """A step, each line behind its sign. `first`: the first column's step, whose query and rationale this one's are held against.
    `found`: ids of the passages that are found beside it. None: nothing to hold against, or not yet."""
    query = compared(step.query, first.query if first else None, QUERY)
    rationale = compared(step.rationale, first.rationale if first else None, RATIONALE)
    signs = [" " if found is None else "=" if hit.passage.id in found else "+" for hit in step.hits]
    titles = [Content.assemble((sign, "bold"), " · ", (one_line(hit.passage.title, 80), "bold" if sign == "+" else ""), "\n")
              for sign, hit in zip(signs, step.hits, strict=True)]  # fmt: skip
    passages = titles or [Content("  · no new passage\n")]
    sign, words = ("+" if first is NOTHING else rationale[0]), rationale[1] if step.rationale.strip() else "(nothing)"
    return Content.assemble((query[0], "bold"), (" ? ", "bold"), query[1], "\n", *passages, (sign, "bold"), (" → ", "bold"), words)


def answer_cell(exchange: Exchange, first: Exchange | None) -> Content:
    """The answer, with a sign, and a word, where it is not the first column's; then whether a passage supports it, or what failed."""
    said = exchange.trajectory.answer
    sign, words = compared(said, first.trajectory.answer if first else None, ANSWER)
    differs = "  differs from the first" if sign in "≠+" else ""
    return Content.assemble((f"{sign} ", "bold"), words if said.strip() else "(no answer)", differs, "\n", (facts_of(exchange)[0], "dim"))


def compared(said: str, wanted: str | None, most: int) -> tuple[str, Content]:
    """A sign, and the text with the words set off that are not the wanted text's: `=` the same but for case and spaces, `≠`
    another, `+` nothing was wanted; a blank where `wanted` is None."""
    text = inert(said, most)
    if wanted is None:
        return " ", text
    if said.casefold().split() == wanted.casefold().split():
        return "=", text
    if not wanted.strip():
        return "+", text
    return "≠", differing(text, shown(wanted, most))


def differing(text: Content, wanted: str) -> Content:
    """The text with every word bold and underlined that is not there, or not at its place, in the wanted one."""
    mine, theirs = list(WORD.finditer(text.plain)), WORD.findall(wanted.casefold())
    matcher = SequenceMatcher(None, theirs, [word[0].casefold() for word in mine], autojunk=False)
    for tag, _, _, start, end in matcher.get_opcodes():
        if tag in ("replace", "insert"):
            text = text.stylize("bold underline", mine[start].start(), mine[end - 1].end())
    return text


def costs(exchanges: Sequence[Exchange | None]) -> list[str]:
    """Of every column its seconds, tokens and steps, and a word where it is best; empty where it is not over."""
    well = [one if one and not one.note else None for one in exchanges]
    are_over = None not in exchanges
    fastest = best([one.seconds if one else None for one in well]) if are_over else frozenset[int]()
    fewest = best([_tokens(one) if one else None for one in well]) if are_over else frozenset[int]()
    return [_cost(one, column in fastest, column in fewest) if one else "" for column, one in enumerate(exchanges)]


def best(values: Sequence[float | None]) -> frozenset[int]:
    """Places of the least value; none where nobody has more. Who has None does not compete."""
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        return frozenset()
    return frozenset(place for place, value in enumerate(values) if value == min(known))


def _tokens(exchange: Exchange) -> int | None:
    return exchange.usage.prompt_tokens + exchange.usage.completion_tokens if exchange.usage else None


def _cost(exchange: Exchange, is_fastest: bool, has_fewest: bool) -> str:
    tokens, steps = _tokens(exchange), len(exchange.trajectory.steps)
    counted = "tokens not counted" if tokens is None else f"{tokens:,} tokens"
    facts = [f"{exchange.seconds:.2f} s{', fastest' * is_fastest}", f"{counted}{', fewest tokens' * has_fewest}",
             f"{steps} step{'s' * (steps != 1)}"]  # fmt: skip
    return " · ".join(facts)
