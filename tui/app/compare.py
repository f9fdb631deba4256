"""The same question answered by several models side by side, step beside step."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from steper_agent.errors import StepERError
from steper_agent.records import Exchange, Step
from tui.app.chain import facts_of
from tui.app.composer import Composer
from tui.app.desk import Choice, Desk
from tui.app.messages import Account, Reasoned
from tui.app.text import inert, one_line

ROLES = ("teacher", "base", "student")


class ComparePane(Container):
    """One column a model. Models are asked at once; a column that fails says why and the others go on."""

    DEFAULT_CSS = """
    ComparePane .models, ComparePane .row { height: auto; }
    ComparePane .models > Input { width: 1fr; }
    ComparePane .row > Static { width: 1fr; padding: 0 1 1 1; border-left: solid $surface-lighten-2; }
    ComparePane #rows { height: 1fr; }
    """
    BINDINGS = [Binding("escape", "stop", "Stop")]

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

    def compose(self) -> ComposeResult:
        with Horizontal(classes="models"):
            for number, role in enumerate(ROLES):
                given = self._models[number] if number < len(self._models) else ""
                yield Input(given, placeholder=f"{role}: a model, or empty", id=role, compact=True)
        yield VerticalScroll(Static("Ask all of them the same question. Columns without a model are left out.", markup=False), id="rows")
        yield Composer()

    @property
    def models(self) -> list[str]:
        return [given for role in ROLES if (given := self.query_one(f"#{role}", Input).value.strip())]

    def on_composer_sent(self, sent: Composer.Sent) -> None:
        sent.stop()
        if not self.models:
            self.notify("Name a model in at least one column.", severity="warning")
            return
        self.run_worker(self._compare(sent.text, self.models), group="compare", exclusive=True, exit_on_error=False)

    def action_stop(self) -> None:
        self.workers.cancel_group(self, "compare")

    async def _compare(self, asked: str, models: list[str]) -> None:
        rows = self.query_one("#rows", VerticalScroll)
        await rows.remove_children()
        await rows.mount(Static(inert(asked), markup=False))
        table = Table(rows, len(models))
        await table.write("model", {column: Content(one_line(model)) for column, model in enumerate(models)})
        exchanges = await asyncio.gather(*(self._answer(asked, model, column, table) for column, model in enumerate(models)))
        await table.write("answer", {column: answer_cell(one, exchanges[0]) for column, one in enumerate(exchanges)})
        self.post_message(self.Compared(list(exchanges)))

    async def _answer(self, asked: str, model: str, column: int, table: Table) -> Exchange:
        choice = self.choice.model_copy(update={"model": model})
        account, began, note = Account(asked, model=model, strategy=choice.strategy), time.perf_counter(), ""
        try:
            async with aclosing(self.desk.ask(asked, (), choice)) as happenings:
                async for happening in happenings:
                    account.add(happening)
                    if isinstance(happening, Reasoned) and happening.step:
                        await table.write(f"step {happening.step}", {column: step_cell(account.steps[-1])})
        except StepERError as refused:
            note = str(refused)
        except Exception as failed:
            # A provider's client may raise anything; the other columns go on.
            note = f"the run failed: {type(failed).__name__}: {failed}"
        return account.exchange(time.perf_counter() - began, note)


class Table:
    """Rows of cells, each made when its first cell is written."""

    def __init__(self, place: VerticalScroll, columns: int) -> None:
        self._place = place
        self._columns = columns
        self._rows: dict[str, list[Static]] = {}

    async def write(self, name: str, cells: dict[int, Content]) -> None:
        if name not in self._rows:
            self._rows[name] = [Static("", markup=False) for _ in range(self._columns)]
            await self._place.mount(Horizontal(*self._rows[name], classes="row"))
        for column, content in cells.items():
            self._rows[name][column].update(Content.assemble((f"{name}\n", "dim"), content))


def step_cell(step: Step) -> Content:
    titles = "\n".join(f"· {one_line(hit.passage.title, 80)}" for hit in step.hits) or "· no new passage"
    return Content.assemble(("? ", "bold"), inert(step.query, 300), f"\n{titles}\n", ("→ ", "bold"), inert(step.rationale, 600))


def answer_cell(exchange: Exchange, first: Exchange) -> Content:
    """With a sign, and a word, where it is not what the first column says."""
    said, wanted = (one.trajectory.answer.strip() for one in (exchange, first))
    differs = said.lower() != wanted.lower()
    return Content.assemble((f"{'≠' if differs else '='} ", "bold"), (inert(said or "(no answer)", 600)),
                            ("  differs from the first" if differs else ""), "\n", ("  ·  ".join(facts_of(exchange)), "dim"))  # fmt: skip
