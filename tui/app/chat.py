"""The chat: questions, what becomes of them as it happens, and the passages they rest on."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static
from textual.worker import Worker

from steper_agent.errors import StepERError
from steper_agent.records import Exchange, Hit
from tui.app.chain import ExchangeView, PassageLine, StepView
from tui.app.choosing import ChoiceScreen
from tui.app.composer import Composer
from tui.app.desk import WORLD, Choice, Desk, aside
from tui.app.evidence import EvidencePane, query_of
from tui.app.messages import Account
from tui.app.text import inert, one_line

MOST_WHOLE = 20
"""Exchanges on the screen: a long conversation opens at once and its keys stay quick; more come when they are asked for."""
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


@dataclass(eq=False, slots=True)
class Talk:
    """A conversation, which is itself whatever becomes of the one on the screen."""

    exchanges: list[Exchange] = field(default_factory=list)
    """Those that are over."""
    id: str | None = None
    """Where it is kept; None until its first exchange is."""


class Idea(Button):
    """A question to begin with."""

    DEFAULT_CSS = "Idea { width: 100%; margin: 0 0 1 0; content-align: left middle; text-align: left; }"

    def __init__(self, question: str) -> None:
        super().__init__(inert(f"? {question}"), compact=True)
        self.question = question


class Earlier(Static, can_focus=True):
    """Stands for the exchanges above the first one on the screen. Enter or a click shows more of them."""

    DEFAULT_CSS = """
    Earlier { height: 1; margin: 0 0 1 0; color: $text-muted; }
    Earlier:hover { background: $block-hover-background; }
    Earlier:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    """
    BINDINGS = [("enter", "show", "Show earlier")]

    class Wanted(Message):
        """More of them."""

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self.display = False

    def tell(self, count: int) -> None:
        """How many are not on the screen."""
        self.display = count > 0
        self.update(f"▲ {count:,} earlier {'exchange' if count == 1 else 'exchanges'}: enter shows {min(count, MOST_WHOLE)} more")

    def action_show(self) -> None:
        self.post_message(self.Wanted())

    def on_click(self) -> None:
        self.action_show()


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

        def __init__(self, talk: Talk, exchange: Exchange) -> None:
            super().__init__()
            self.talk, self.exchange = talk, exchange

    def __init__(self, desk: Desk, choice: Choice) -> None:
        super().__init__()
        self.desk = desk
        self.choice = choice
        self.talk = Talk()
        self._chosen: dict[datetime, Choice] = {}
        """How those asked since the app began were answered, by when they were asked."""
        self._run: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(id="columns"):
            with Vertical(id="talk"):
                yield VerticalScroll(Earlier(), Static(WELCOME, id="welcome", markup=False), id="transcript")
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

    @property
    def exchanges(self) -> list[Exchange]:
        return self.talk.exchanges

    async def restart(self, exchanges: list[Exchange], id: str | None = None) -> None:
        """Another conversation, as far as it has come."""
        self.action_stop()
        self.talk = Talk(list(exchanges), id)
        for exchange in exchanges:
            self.query_one(Composer).remember(exchange.asked)
        transcript, earlier = self.query_one("#transcript", VerticalScroll), Earlier()
        shown = exchanges[-MOST_WHOLE:]
        views = [ExchangeView.over(one, folded=one is not shown[-1]) for one in shown]
        with self.app.batch_update():
            await transcript.remove_children()
            await transcript.mount(earlier, *views)
            earlier.tell(len(exchanges) - len(views))
        transcript.anchor()

    async def on_earlier_wanted(self) -> None:
        """The exchanges right above the first one on the screen, with the keys on the newest of them."""
        count = self._earlier
        views = [ExchangeView.over(one, folded=True) for one in self.exchanges[max(0, count - MOST_WHOLE) : count]]
        if views:
            earlier = self.query_one(Earlier)
            self.query_one("#transcript", VerticalScroll).release_anchor()
            await self.query_one("#transcript").mount(*views, after=earlier)
            earlier.tell(self._earlier)
            views[-1].focus()

    @property
    def _earlier(self) -> int:
        """Exchanges that are over and not on the screen."""
        return len(self.exchanges) - sum(view.finished is not None for view in self.query(ExchangeView))

    @property
    def is_running(self) -> bool:
        return self._run is not None and self._run.is_running

    def ask(self, asked: str, choice: Choice | None = None) -> None:
        """With a choice, it is this question's alone."""
        if self.is_running:
            self.notify("One question at a time: escape stops the one under way.", severity="warning")
            return
        self._run = self.run_worker(self._ask(asked, choice or self.choice), group="ask", exit_on_error=False)

    def action_stop(self) -> None:
        if self._run and self._run.is_running:
            self._run.cancel()

    def on_composer_sent(self, sent: Composer.Sent) -> None:
        if self.is_running:
            self.query_one(Composer).put_back(sent.text)
        self.ask(sent.text)

    def on_exchange_view_again(self, again: ExchangeView.Again) -> None:
        exchange, then = again.exchange, self._choice_of(again.exchange)
        if again.otherwise:
            self.app.push_screen(ChoiceScreen(then, again=exchange.asked), lambda choice: self.ask(exchange.asked, choice) if choice else None)
        else:
            self.ask(exchange.asked, then)

    def on_button_pressed(self, pressed: Button.Pressed) -> None:
        if isinstance(pressed.button, Idea):
            self.query_one(Composer).remember(pressed.button.question)
            self.ask(pressed.button.question)

    def on_passage_line_opened(self, opened: PassageLine.Opened) -> None:
        evidence = self.query_one(EvidencePane)
        evidence.display = True
        step = next(one for one in opened.line.ancestors if isinstance(one, StepView))
        view = next(one for one in step.ancestors if isinstance(one, ExchangeView))
        exchange = view.finished or view.account.exchange(0.0)
        query = query_of(exchange, opened.hit.passage.id)
        evidence.show(opened.hit, step=opened.step, query=query, rationale=step.written, exchange=exchange)
        self.run_worker(self._explain(self._choice_of(exchange), query, opened.hit), group="why", exclusive=True, exit_on_error=False)

    async def _explain(self, choice: Choice, query: str, hit: Hit) -> None:
        evidence = self.query_one(EvidencePane)
        try:
            evidence.explain(await self.desk.why(choice, query, hit.passage.id))
        except StepERError as unknown:
            evidence.leave_unexplained(unknown.what)
        except Exception as failed:
            # An encoder's client may raise anything, too.
            evidence.leave_unexplained(f"{type(failed).__name__}: {failed}")

    def _choice_of(self, exchange: Exchange) -> Choice:
        """How it was answered. Of one from another day only the strategy is known: the rest is as the next question's."""
        return self._chosen.get(exchange.time) or self.choice.model_copy(update={"strategy": exchange.trajectory.strategy})

    async def _welcome(self) -> None:
        if self.choice.index != WORLD:
            return
        ideas = await aside(lambda: self.desk.question_ideas(self.choice))
        transcript = self.query_one("#transcript")
        if not self.exchanges and not self.is_running and ideas:
            await transcript.mount(Static(IN_THE_WORLD, markup=False, id="world"), *(Idea(idea) for idea in ideas))

    async def _ask(self, asked: str, choice: Choice) -> None:
        talk, began, note = self.talk, time.perf_counter(), ""
        view = ExchangeView(Account(asked, model=choice.model, strategy=choice.strategy))
        self._chosen[view.account.exchange(0.0).time] = choice
        await self._make_room(view)
        try:
            async with aclosing(self.desk.ask(asked, talk.exchanges, choice)) as happenings:
                async for happening in happenings:
                    view.show(happening)
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
            # Of a conversation that was left meanwhile nothing is on the screen, and nothing belongs to the one that is.
            if talk is self.talk:
                talk.exchanges.append(exchange)
                # Before it is drawn, for a stop may come meanwhile.
                self.post_message(self.Answered(talk, exchange))
                await view.finish(exchange)

    async def _make_room(self, view: ExchangeView) -> None:
        """Put it below the others: those are folded, and the oldest ones leave the screen."""
        transcript = self.query_one("#transcript", VerticalScroll)
        before = list(self.query(ExchangeView))
        for one in before:
            one.fold()
        with self.app.batch_update():
            await transcript.query("#welcome, #world, Idea").remove()
            await transcript.remove_children(before[: max(0, len(before) + 1 - MOST_WHOLE)])
            await transcript.mount(view)
            self.query_one(Earlier).tell(self._earlier)
        transcript.anchor()
