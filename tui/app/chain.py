"""An exchange on the screen: the question, the chain step by step, the answer and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Collapsible, Markdown, Static

from steper_agent.records import Exchange, Hit
from tui.app.conversations import as_markdown
from tui.app.messages import Account, Asked, Ended, Found, Happening, Reasoned, Understood, Wrote
from tui.app.text import inert, one_line, shown

MOST_TITLE = 80


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

    def __init__(self, hit: Hit, step: int, *, rests: bool = False) -> None:
        super().__init__(id=None)
        self.hit = hit
        self.step = step
        self.rests = rests
        self._draw()

    def rest(self) -> None:
        """The rationale rests on it: a sign says so."""
        if not self.rests:
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
    """A step: its query as the title, its passages and its rationale below, folded with enter or a click. What is folded from the
    beginning is made when it is first unfolded."""

    DEFAULT_CSS = """
    StepView { border: none; padding: 0; background: transparent; }
    StepView > Contents { padding: 0 0 0 3; }
    StepView .rationale { padding: 0 1; }
    """

    def __init__(self, number: int, query: str, *, folded: bool = False) -> None:
        self.number = number
        self.asked = query
        self.written = ""
        self._hits: tuple[Hit, ...] | None = None
        self._rests = frozenset[str]()
        self._body = self.Contents()
        self._rationale = Static("", classes="rationale", markup=False)
        title = Content.assemble((f"{number} ", "bold"), one_line(query) or "(no search)")
        super().__init__(title=cast("str", title), collapsed=folded, classes="-collapsed" if folded else None)

    def compose(self) -> ComposeResult:
        yield self._title
        with self._body:
            yield from [] if self.collapsed else self._parts()

    def show_hits(self, hits: tuple[Hit, ...]) -> None:
        self._hits = hits
        # Before it is composed there is nowhere to put them, and no need: they come with the rest, in one layout.
        if self._body.is_attached and not self.collapsed:
            self._body.mount(*self._lines(), before=0 if self._body.children else None)

    def write(self, text: str) -> None:
        self.written += text
        self._draw()

    def conclude(self, rationale: str) -> None:
        """What was written token by token is replaced by what was read out of it."""
        self.written = rationale or "(nothing)"
        self._draw()

    def rest_on(self, ids: Iterable[str]) -> None:
        self._rests |= frozenset(ids)
        for line in self.query(PassageLine):
            if line.hit.passage.id in self._rests:
                line.rest()

    def on_collapsible_title_toggle(self) -> None:
        self.call_after_refresh(self.scroll_visible)

    def _watch_collapsed(self, collapsed: bool) -> None:
        """Unlike its parent's it does not scroll there: folding what is older must not move what a person reads."""
        self._update_collapsed(collapsed)
        if not collapsed and self._body.is_attached and not self._body.children:
            self._body.mount(*self._parts())

    def _parts(self) -> list[Static]:
        return [*self._lines(), self._rationale]

    def _lines(self) -> list[Static]:
        if self._hits is None:
            return []
        lines = [PassageLine(hit, self.number, rests=hit.passage.id in self._rests) for hit in self._hits]
        return [*lines] or [Static("· no new passage", markup=False)]

    def _draw(self) -> None:
        told, size = Content.assemble("→ ", inert(self.written.strip())), self._rationale.content_size
        # Most of what is written fits on the line it began: no layout then.
        self._rationale.update(told, layout=not size or told.get_height({}, size.width) != size.height)


class ExchangeView(Vertical, can_focus=True):
    """One question and what becomes of it; while it is under way, `show` what happens."""

    DEFAULT_CSS = """
    ExchangeView { height: auto; padding: 0 1 1 1; border-left: thick $surface; }
    ExchangeView:focus { border-left: thick $accent; }
    ExchangeView .question { text-style: bold; padding: 0 0 1 0; }
    ExchangeView .answer { padding: 0; margin: 1 0 0 0; }
    ExchangeView .foot { color: $text-muted; }
    ExchangeView #chain { height: auto; }
    """
    BINDINGS = [("c", "copy", "Copy answer"), ("y", "copy_all", "Copy all"), ("a", "again", "Ask again"),
                ("m", "again(True)", "Ask again with …"), ("f", "fold", "Fold steps")]  # fmt: skip

    class Again(Message):
        """Ask this once more; `otherwise`: not as it was asked, but as a person chooses now."""

        def __init__(self, exchange: Exchange, *, otherwise: bool) -> None:
            super().__init__()
            self.exchange = exchange
            self.otherwise = otherwise

    def __init__(self, account: Account) -> None:
        self.account = account
        self.finished: Exchange | None = None
        self._steps: dict[int, StepView] = {}
        super().__init__()

    @classmethod
    def over(cls, exchange: Exchange, *, folded: bool) -> Self:
        """One that is over, as if it had just happened."""
        trajectory = exchange.trajectory
        view = cls(Account(exchange.asked, model=trajectory.model, strategy=trajectory.strategy))
        view.finished = exchange
        for number, step in enumerate(trajectory.steps, start=1):
            view._steps[number] = one = StepView(number, step.query, folded=folded)
            one.show_hits(step.hits)
            one.conclude(step.rationale)
        view._rest_on(exchange.rests_on)
        return view

    def compose(self) -> ComposeResult:
        over = self.finished
        yield Static(inert(self.account.asked), classes="question", markup=False)
        yield Vertical(*self._steps.values(), id="chain")
        if over and over.trajectory.answer:
            yield answer_of(over)
        yield Static(foot_of(over) if over else "… thinking", classes="foot", id="foot", markup=False)

    def show(self, happening: Happening) -> None:
        self.account.add(happening)
        match happening:
            case Understood(question):
                self.call_next(self._append, Static(Content.assemble("understood as: ", inert(question)), classes="foot"))
            case Asked(step, query):
                self._steps[step] = StepView(step, query)
                self.call_next(self._append, self._steps[step])
            case Found(step, hits):
                self._steps[step].show_hits(hits)
            case Wrote(step, text) if step in self._steps:
                self._steps[step].write(text)
            case Reasoned(step, rationale, _) if step in self._steps:
                self._steps[step].conclude(rationale)
            case Ended():
                self._rest_on(happening.rests_on)
            case _:
                pass

    async def finish(self, exchange: Exchange) -> None:
        """It is over: the answer, or why there is none, and what it cost."""
        self.finished = exchange
        foot = self.query_one("#foot", Static)
        foot.update(foot_of(exchange))
        if exchange.trajectory.answer:
            with self.app.batch_update():
                await self.mount(answer_of(exchange), before=foot)

    def action_copy(self) -> None:
        if self.finished:
            self.app.copy_to_clipboard(shown(self.finished.trajectory.answer))
            self.notify("The answer is in the clipboard.")

    def action_copy_all(self) -> None:
        if self.finished:
            self.app.copy_to_clipboard(as_markdown(self.finished))
            self.notify("The exchange is in the clipboard, as Markdown.")

    def action_again(self, otherwise: bool = False) -> None:
        if self.finished:
            self.post_message(self.Again(self.finished, otherwise=otherwise))

    def action_fold(self) -> None:
        self.fold(not all(step.collapsed for step in self._steps.values()))

    def fold(self, folded: bool = True) -> None:
        """Folded steps cost no layout: a long conversation stays quick."""
        for step in self._steps.values():
            step.collapsed = folded

    async def _append(self, part: Widget) -> None:
        """With all that is in it in one layout: it is put there when what happened together has been told."""
        with self.app.batch_update():
            await self.query_one("#chain").mount(part)

    def _rest_on(self, rests_on: Sequence[Sequence[str]]) -> None:
        """A passage that a rationale rests on may have been found in any step up to its own."""
        for number, view in self._steps.items():
            view.rest_on(id for ids in rests_on[max(number, 1) - 1 :] for id in ids)


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


def answer_of(exchange: Exchange) -> Markdown:
    return Markdown(safe_markdown(exchange.trajectory.answer), classes="answer", open_links=False)


def foot_of(exchange: Exchange) -> Content:
    return Content("  ·  ".join(facts_of(exchange)))


def safe_markdown(text: str) -> str:
    """Markdown of a model: headings, lists and code are its own; what reaches beyond the screen (images, HTML) is shown as it
    is written."""
    return shown(text).replace("<", "\\<").replace("![", "!\\[")
