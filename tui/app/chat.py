"""The chat: questions, what becomes of them as it happens, and the passages they rest on."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static
from textual.worker import Worker

from steper_agent.errors import StepERError
from steper_agent.records import Exchange
from tui.app.chain import ExchangeView, PassageLine, StepView
from tui.app.composer import Composer
from tui.app.desk import WORLD, Choice, Desk, aside
from tui.app.evidence import EvidencePane
from tui.app.messages import Account
from tui.app.text import inert, one_line

NARROW = 100
"""Columns below which evidence goes under the chat, and not beside it."""
WELCOME = (
    "Ask a question that needs several steps. The answer is looked for in passages, step by step, and every step is shown: the "
    "query, the passages it found, and what was concluded from them."
)
IN_THE_WORLD = (
    "Nothing is configured, so this is the micro-world: made-up people, films and towns, and a teacher who knows how to look "
    "things up. For your own documents: steper index build FOLDER --out runs/index, then steper chat --index runs/index --model SPEC."
)


class Idea(Button):
    """A question to begin with."""

    DEFAULT_CSS = "Idea { width: 100%; margin: 0 0 1 0; content-align: left middle; text-align: left; }"

    def __init__(self, question: str) -> None:
        super().__init__(inert(f"? {question}"), compact=True)
        self.question = question


class ChatPane(Container):
    DEFAULT_CSS = """
    ChatPane #talk { width: 1fr; }
    ChatPane #transcript { height: 1fr; padding: 0 1; }
    ChatPane #evidence { width: 40%; display: none; }
    ChatPane.narrow #columns { layout: vertical; }
    ChatPane.narrow #evidence { width: 100%; height: 45%; border-left: none; border-top: solid $surface-lighten-2; }
    ChatPane #welcome { padding: 1 0; }
    ChatPane #choice { height: 1; color: $text-muted; padding: 0 1; }
    """
    BINDINGS = [Binding("escape", "stop", "Stop", priority=False)]

    class Answered(Message):
        """An exchange is over, well or not."""

        def __init__(self, exchange: Exchange) -> None:
            super().__init__()
            self.exchange = exchange

    def __init__(self, desk: Desk, choice: Choice) -> None:
        super().__init__()
        self.desk = desk
        self.choice = choice
        self.exchanges: list[Exchange] = []
        self._run: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(id="columns"):
            with Vertical(id="talk"):
                yield VerticalScroll(Static(WELCOME, id="welcome", markup=False), id="transcript")
                yield Static("", id="choice", markup=False)
                yield Composer(id="composer")
            yield EvidencePane(id="evidence")

    def on_mount(self) -> None:
        self.query_one("#transcript", VerticalScroll).anchor()
        self.query_one(Composer).focus()
        self.choose(self.choice)
        self.run_worker(self._welcome(), group="welcome", exit_on_error=False)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < NARROW, "narrow")

    def choose(self, choice: Choice) -> None:
        """Answer with this from the next question on."""
        self.choice = choice
        told = f"{one_line(choice.model)} over {one_line(choice.index)}  ·  {choice.strategy}, k {choice.k}, {choice.steps} steps"
        self.query_one("#choice", Static).update(Content(told))

    async def restart(self, exchanges: list[Exchange]) -> None:
        """Another conversation, as far as it has come."""
        self.action_stop()
        self.exchanges = list(exchanges)
        transcript = self.query_one("#transcript")
        await transcript.remove_children()
        for exchange in exchanges:
            view = ExchangeView(Account(exchange.asked, model=exchange.trajectory.model, strategy=exchange.trajectory.strategy))
            await transcript.mount(view)
            await view.replay(exchange)
            self.query_one(Composer).remember(exchange.asked)

    @property
    def is_running(self) -> bool:
        return self._run is not None and self._run.is_running

    def ask(self, asked: str) -> None:
        if self.is_running:
            self.notify("One question at a time: escape stops the one under way.", severity="warning")
            self.query_one(Composer).put_back(asked)
            return
        self._run = self.run_worker(self._ask(asked), group="ask", exit_on_error=False)

    def action_stop(self) -> None:
        if self._run and self._run.is_running:
            self._run.cancel()

    def on_composer_sent(self, sent: Composer.Sent) -> None:
        self.ask(sent.text)

    def on_exchange_view_again(self, again: ExchangeView.Again) -> None:
        self.ask(again.asked)

    def on_button_pressed(self, pressed: Button.Pressed) -> None:
        if isinstance(pressed.button, Idea):
            self.query_one(Composer).remember(pressed.button.question)
            self.ask(pressed.button.question)

    def on_passage_line_opened(self, opened: PassageLine.Opened) -> None:
        evidence = self.query_one(EvidencePane)
        evidence.display = True
        view = next((one for one in opened.line.ancestors if isinstance(one, StepView)), None)
        if view:
            evidence.show(opened.hit, step=opened.step, query=view.asked, rationale=view.written)

    async def _welcome(self) -> None:
        if self.choice.index != WORLD:
            return
        ideas = await aside(lambda: self.desk.question_ideas(self.choice))
        transcript = self.query_one("#transcript")
        if not self.exchanges and not self.is_running and ideas:
            await transcript.mount(Static(IN_THE_WORLD, markup=False, id="world"), *(Idea(idea) for idea in ideas))

    async def _ask(self, asked: str) -> None:
        choice, began, note = self.choice, time.perf_counter(), ""
        view = ExchangeView(Account(asked, model=choice.model, strategy=choice.strategy))
        transcript = self.query_one("#transcript")
        await transcript.query("#welcome, #world, Idea").remove()
        for before in transcript.query(ExchangeView):
            before.fold()
        await transcript.mount(view)
        try:
            async with aclosing(self.desk.ask(asked, self.exchanges, choice)) as happenings:
                async for happening in happenings:
                    await view.show(happening)
        except asyncio.CancelledError:
            note = "stopped"
            raise
        except StepERError as refused:
            note = str(refused)
        except Exception as failed:
            # A provider's client may raise anything; the app lives on and says it.
            note = f"the run failed: {type(failed).__name__}: {failed}"
        finally:
            exchange = view.account.exchange(time.perf_counter() - began, note)
            self.exchanges.append(exchange)
            await view.finish(exchange)
            self.post_message(self.Answered(exchange))
