"""An exchange on the screen: the question, the chain step by step, the answer and what it cost."""

from __future__ import annotations

from typing import cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Collapsible, Markdown, Static

from steper_agent.records import Exchange, Hit
from tui.app.messages import Account, Asked, Ended, Found, Happening, Reasoned, Understood, Wrote
from tui.app.text import inert, one_line, shown

MOST_TITLE = 80
DRAWN_EVERY = 0.1
"""Seconds: a layout for every token would leave no time for keys."""


class PassageLine(Static, can_focus=True):
    """A passage of a step: its score, its title and how it begins. Enter or a click shows the whole of it."""

    DEFAULT_CSS = """
    PassageLine { height: 1; padding: 0 1; text-overflow: ellipsis; text-wrap: nowrap; }
    PassageLine:hover { background: $block-hover-background; }
    PassageLine:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    """
    BINDINGS = [("enter", "open", "Show passage")]

    class Opened(Message):
        """`step`: of which it was found."""

        def __init__(self, line: PassageLine) -> None:
            super().__init__()
            self.line = line
            self.hit = line.hit
            self.step = line.step

    def __init__(self, hit: Hit, step: int) -> None:
        super().__init__(id=None)
        self.hit = hit
        self.step = step
        self.rests = False
        self._draw()

    def rest(self) -> None:
        """The rationale rests on it: a sign says so."""
        self.rests = True
        self._draw()

    def _draw(self) -> None:
        passage = self.hit.passage
        sign = "◆" if self.rests else "·"
        self.update(Content.assemble(f"{sign} {self.hit.score:7.3f}  ", (one_line(passage.title, MOST_TITLE), "bold"), "  ",
                                     (one_line(passage.text), "dim")))  # fmt: skip

    def action_open(self) -> None:
        self.post_message(self.Opened(self))

    def on_click(self) -> None:
        self.action_open()


class StepView(Collapsible):
    """A step: its query as the title, its passages and its rationale below, folded with enter or a click."""

    DEFAULT_CSS = """
    StepView { border: none; padding: 0; background: transparent; }
    StepView > Contents { padding: 0 0 0 3; }
    StepView .rationale { padding: 0 1; }
    """

    def __init__(self, number: int, query: str) -> None:
        self.number = number
        self.asked = query
        self.written = ""
        self._is_due = False
        self._passages = Vertical()
        self._passages.styles.height = "auto"
        self._rationale = Static("", classes="rationale", markup=False)
        title = Content.assemble((f"{number} ", "bold"), one_line(query) or "(no search)")
        super().__init__(self._passages, self._rationale, title=cast("str", title), collapsed=False)

    def show_hits(self, hits: tuple[Hit, ...]) -> None:
        self._passages.mount(*(PassageLine(hit, self.number) for hit in hits) if hits else [Static("· no new passage")])

    def write(self, text: str) -> None:
        self.written += text
        if not self._is_due:
            self._is_due = True
            self.set_timer(DRAWN_EVERY, self._draw)

    def conclude(self, rationale: str) -> None:
        """What was written token by token is replaced by what was read out of it."""
        self.written = rationale or "(nothing)"
        self._draw()

    def _draw(self) -> None:
        self._is_due = False
        self._rationale.update(Content.assemble("→ ", inert(self.written.strip())))

    def rest_on(self, ids: tuple[str, ...]) -> None:
        for line in self.query(PassageLine):
            if line.hit.passage.id in ids:
                line.rest()


class ExchangeView(Vertical, can_focus=True):
    """One question and what becomes of it; while it is under way, `show` what happens."""

    DEFAULT_CSS = """
    ExchangeView { height: auto; padding: 0 1 1 1; border-left: thick $surface; }
    ExchangeView:focus { border-left: thick $accent; }
    ExchangeView .question { text-style: bold; padding: 0 0 1 0; }
    ExchangeView .answer { padding: 0; margin: 1 0 0 0; }
    ExchangeView .foot { color: $text-muted; }
    """
    BINDINGS = [("c", "copy", "Copy answer"), ("a", "again", "Ask again"), ("f", "fold", "Fold steps")]

    class Again(Message):
        def __init__(self, asked: str) -> None:
            super().__init__()
            self.asked = asked

    def __init__(self, account: Account) -> None:
        self.account = account
        self.finished: Exchange | None = None
        self._steps: dict[int, StepView] = {}
        self._answer = Markdown("", classes="answer", open_links=False)
        self._foot = Static("… thinking", classes="foot", markup=False)
        super().__init__()

    def compose(self) -> ComposeResult:
        yield Static(inert(self.account.asked), classes="question", markup=False)
        yield Vertical(id="chain")
        yield self._answer
        yield self._foot

    def on_mount(self) -> None:
        self.query_one("#chain").styles.height = "auto"

    async def show(self, happening: Happening) -> None:
        self.account.add(happening)
        match happening:
            case Understood(question):
                await self.query_one("#chain").mount(Static(Content.assemble("understood as: ", inert(question)), classes="foot"))
            case Asked(step, query):
                self._steps[step] = StepView(step, query)
                await self.query_one("#chain").mount(self._steps[step])
            case Found(step, hits):
                self._steps[step].show_hits(hits)
            case Wrote(step, text) if step in self._steps:
                self._steps[step].write(text)
            case Reasoned(step, rationale, _) if step in self._steps:
                self._steps[step].conclude(rationale)
            case Ended():
                for number, ids in enumerate(happening.rests_on, start=1):
                    for view in self._steps.values():
                        if view.number <= number:
                            view.rest_on(ids)
            case _:
                pass

    async def finish(self, exchange: Exchange) -> None:
        """It is over: the answer, or why there is none, and what it cost."""
        self.finished = exchange
        await self._answer.update(safe_markdown(exchange.trajectory.answer))
        self._foot.update(Content("  ·  ".join(facts_of(exchange))))

    async def replay(self, exchange: Exchange) -> None:
        """Show one that is over as if it had just happened."""
        steps = exchange.trajectory.steps
        for number, step in enumerate(steps, start=1):
            for happening in (Asked(number, step.query), Found(number, step.hits), Reasoned(number, step.rationale, "ok")):
                await self.show(happening)
        await self.show(Ended(exchange.trajectory, exchange.rests_on, exchange.supported))
        await self.finish(exchange)

    def action_copy(self) -> None:
        if self.finished:
            self.app.copy_to_clipboard(shown(self.finished.trajectory.answer))
            self.notify("The answer is in the clipboard.")

    def action_again(self) -> None:
        self.post_message(self.Again(self.account.asked))

    def action_fold(self) -> None:
        self.fold(not all(step.collapsed for step in self._steps.values()))

    def fold(self, folded: bool = True) -> None:
        """Folded steps cost no layout: a long conversation stays quick."""
        for step in self._steps.values():
            step.collapsed = folded


def facts_of(exchange: Exchange) -> list[str]:
    """The line below an answer, in words."""
    trajectory, usage = exchange.trajectory, exchange.usage
    facts = [one_line(trajectory.model), trajectory.strategy, f"{exchange.seconds:.1f} s"]
    if usage:
        facts.append(f"{usage.prompt_tokens + usage.completion_tokens:,} tokens")
    if exchange.note:
        return [f"✗ {one_line(exchange.note)}", *facts]
    facts.insert(0, "✓ a passage supports it" if exchange.supported else "! no passage that was read supports it")
    return [*facts, "step budget spent"] if trajectory.stop == "budget" else facts


def safe_markdown(text: str) -> str:
    """Markdown of a model: headings, lists and code are its own; what reaches beyond the screen (images, HTML) is shown as it
    is written."""
    return shown(text).replace("<", "\\<").replace("![", "!\\[")
