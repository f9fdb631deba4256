"""The chat on the micro-world: ask, watch, stop, ask again, read a passage; and what goes wrong is told and survived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Markdown, Static

from steper_agent.errors import ModelError
from steper_agent.records import Exchange, Hit, Passage
from tests.tui.app.exchanges import exchange
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tui.app.chain import ExchangeView, PassageLine, StepView
from tui.app.chat import MOST_WHOLE, ChatPane, Earlier, Idea
from tui.app.composer import Composer
from tui.app.desk import Choice, Desk
from tui.app.evidence import EvidencePane
from tui.app.messages import Account, Asked, Found, Happening, Reasoned, Understood, Wrote

SIZES = [(80, 24), (140, 45)]


class Host(App[None]):
    def __init__(self, desk: Desk, choice: Choice | None = None) -> None:
        super().__init__()
        self.desk, self.choice = desk, choice or Choice()
        self.pane = ChatPane(self.desk, self.choice)
        self.kept: list[Exchange] = []

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_chat_pane_answered(self, answered: ChatPane.Answered) -> None:
        self.kept.append(answered.exchange)

    @property
    def answered(self) -> list[Exchange]:
        """Those that are drawn: an exchange is kept before it is."""
        return self.kept[: len(self.kept) - self.pane.is_running]


class Scripted(Desk):
    """Tells what a test wants told."""

    def __init__(self, *told: Happening | Exception, wait: bool = False) -> None:
        super().__init__()
        self.told, self.wait = told, wait
        self.asked: list[str] = []

    def question_ideas(self, choice: Choice, count: int = 4) -> list[str]:
        del choice, count
        return []

    async def ask(self, asked: str, history: Sequence[Exchange], choice: Choice) -> AsyncGenerator[Happening]:
        del history, choice
        self.asked.append(asked)
        for one in self.told:
            if isinstance(one, Exception):
                raise one
            yield one
        if self.wait:
            await asyncio.Event().wait()


async def soon(pilot: Pilot[None], happened: Callable[[], bool], seconds: float = 60.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if happened():
            return
        await pilot.pause(0.05)
    raise AssertionError("it did not happen")


async def write(pilot: Pilot[None], text: str) -> None:
    composer = pilot.app.query_one(Composer).focus()
    composer.text = text
    await pilot.press("enter")


def text_of(widget: Static) -> str:
    return str(widget.visual)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("size", SIZES)
async def test_a_question_is_answered_before_one_s_eyes(size: tuple[int, int]) -> None:
    app = Host(Desk())
    async with app.run_test(size=size) as pilot:
        # A click before the layout would land where the idea is not yet.
        await soon(pilot, lambda: bool(app.query(Idea)) and app.query(Idea).last().region.height > 0)
        await pilot.pause()
        await pilot.click(app.query(Idea).last())
        await soon(pilot, lambda: bool(app.answered))
        exchange = app.answered[0]
        assert exchange.trajectory.stop == "answered"
        assert exchange.supported
        assert len(app.query(StepView)) == len(exchange.trajectory.steps) >= 2
        for view, step in zip(app.query(StepView), exchange.trajectory.steps, strict=True):
            assert len(view.query(PassageLine)) == len(step.hits)
            assert step.rationale in view.written
        assert exchange.trajectory.answer in app.query_one(Markdown).source
        assert not app.query(Idea), "ideas give way"
        assert any(line.rests for line in app.query(PassageLine))


async def test_a_passage_is_read_beside_the_chat_and_says_why_it_is_there() -> None:
    hit = Hit(passage=Passage(id="p1", title="Emma", text="It is a novel. Jane Austen wrote Emma in 1815. It sold."), score=2.5)
    app = Host(Scripted(Asked(1, "who wrote Emma"), Found(1, (hit,)), Reasoned(1, "Jane Austen wrote Emma.", "ok")))
    async with app.run_test(size=(140, 45)) as pilot:
        await write(pilot, "Who wrote Emma?")
        await soon(pilot, lambda: bool(app.query(PassageLine)))
        app.query_one(PassageLine).focus()
        await pilot.press("enter")
        await pilot.pause()
        evidence = app.query_one(EvidencePane)
        assert evidence.display
        shown = "\n".join(text_of(part) for part in evidence.query(Static))
        assert "▶ Jane Austen wrote Emma in 1815. ◀" in shown
        assert "query: who wrote Emma" in shown
        assert "words of the query in it: emma, wrote" in shown
        evidence.focus()
        await pilot.press("escape")
        assert not evidence.display


async def test_escape_stops_a_run_and_what_there_was_is_kept() -> None:
    app = Host(Scripted(Asked(1, "first"), Found(1, ()), Wrote(1, "half a li"), wait=True))
    async with app.run_test() as pilot:
        await write(pilot, "Who?")
        await soon(pilot, lambda: bool(app.query(StepView)))
        await write(pilot, "Another?")
        assert len(app.query(ExchangeView)) == 1, "one at a time"
        assert app.query_one(Composer).text == "Another?", "and what was written is not lost"
        await pilot.press("escape")
        await soon(pilot, lambda: bool(app.answered))
        assert app.answered[0].note == "stopped"
        assert [step.query for step in app.answered[0].trajectory.steps] == ["first"]
        await write(pilot, "And now?")
        await soon(pilot, lambda: len(app.query(ExchangeView)) == 2)


@pytest.mark.parametrize("leave", ["escape", "another conversation"])
async def test_what_was_answered_is_kept_though_it_is_stopped_while_it_is_drawn(leave: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = asyncio.Event()

    async def slow(*_: object) -> None:
        drawing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ExchangeView, "finish", slow)
    app = Host(Scripted(Asked(1, "q"), Reasoned(1, "So.", "ok")))
    async with app.run_test() as pilot:
        await write(pilot, "Who?")
        await asyncio.wait_for(drawing.wait(), 20)
        if leave == "escape":
            await pilot.press("escape")
        else:
            await app.pane.restart([])
        await soon(pilot, lambda: not app.pane.is_running)
        await soon(pilot, lambda: [one.asked for one in app.kept] == ["Who?"], 5)
        assert not app.kept[0].note


@pytest.mark.parametrize("fault", [ModelError("no such model", where="here", fix="name another"), RuntimeError("provider fell over")])
async def test_a_run_that_fails_says_so_and_the_chat_goes_on(fault: Exception) -> None:
    desk = Scripted(Asked(1, "q"), fault)
    app = Host(desk)
    async with app.run_test() as pilot:
        await write(pilot, "Who?")
        await soon(pilot, lambda: bool(app.answered))
        await pilot.pause()
        assert str(fault.args[0]) in text_of(app.query(ExchangeView).last().query(".foot").last(Static))
        await write(pilot, "Again?")
        await soon(pilot, lambda: desk.asked == ["Who?", "Again?"])


async def test_questions_before_are_at_hand_and_a_draft_is_not_lost() -> None:
    app = Host(Scripted())
    async with app.run_test() as pilot:
        composer = app.query_one(Composer)
        for asked in ("first", "second"):
            await write(pilot, asked)
            await soon(pilot, lambda: len(app.answered) == len(composer._asked))
        await pilot.press(*"dra", "ctrl+j", *"ft")
        assert composer.text == "dra\nft"
        seen = []
        for key in ("up", "up", "up", "down", "down", "down"):
            await pilot.press(key)
            seen.append(composer.text)
        assert seen == ["dra\nft", "second", "first", "second", "dra\nft", "dra\nft"]


async def test_a_question_is_asked_again_and_steps_are_folded_by_a_key() -> None:
    desk = Scripted(Asked(1, "q"), Found(1, ()), Reasoned(1, "So.", "ok"))
    app = Host(desk)
    async with app.run_test() as pilot:
        await write(pilot, "Who?")
        await soon(pilot, lambda: bool(app.answered))
        app.query_one(ExchangeView).focus()
        await pilot.press("f")
        assert app.query_one(StepView).collapsed
        await pilot.press("f", "a")
        await soon(pilot, lambda: desk.asked == ["Who?", "Who?"])


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 50))
async def test_hostile_text_is_text_wherever_it_stands(first: int) -> None:
    texts = HOSTILE[first : first + 50]
    hits = tuple(Hit(passage=Passage(id=f"{at} {text[:500]}", title=text, text=text), score=1.0) for at, text in enumerate(texts))
    told = [Understood(texts[0]), Asked(1, texts[1]), Found(1, hits), Wrote(1, texts[2]), Reasoned(1, texts[3], "ok"), RuntimeError(texts[4])]
    app = Host(Scripted(*told), Choice(model=texts[5][:200], index=texts[6][:200]))
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, texts[7])
        await soon(pilot, lambda: bool(app.answered))
        for line in app.query(PassageLine):
            line.action_open()
            await pilot.pause()
            drawn = "".join(segment.text for strip in app.screen._compositor.render_strips() for segment in strip)
            assert not FORBIDDEN & set(drawn)


async def answered(desk: Desk, asked: str, history: Sequence[Exchange]) -> Exchange:
    account = Account(asked, model="", strategy="ircot")
    async for happening in desk.ask(asked, history, Choice()):
        account.add(happening)
    return account.exchange(0.0)


@pytest.mark.usefixtures("world")
async def test_a_run_that_came_to_nothing_is_no_part_of_the_conversation() -> None:
    desk = Desk()
    stopped = Account("never mind", model="m", strategy="ircot").exchange(1.0, "stopped")
    first = await answered(desk, "What is the mother of Tendal Wimkin?", [stopped])
    assert first.trajectory.answer
    assert first.trajectory.question.text == first.asked


async def test_a_long_conversation_opens_at_its_end_and_what_is_before_comes_when_it_is_asked_for() -> None:
    told = [exchange(f"question {number}", f"answer {number}") for number in range(500)]
    app = Host(Scripted())
    async with app.run_test(size=(80, 24)) as pilot:
        chat = app.query_one(ChatPane)
        await chat.restart(told)
        await pilot.pause()
        assert whole(app) == told[-MOST_WHOLE:]
        assert "480 earlier exchanges" in text_of(app.query_one(Earlier))
        assert app.query_one("#transcript").is_vertical_scroll_end
        app.query_one(Earlier).focus()
        await pilot.press("enter")
        await soon(pilot, lambda: len(app.query(ExchangeView)) == 2 * MOST_WHOLE)
        assert whole(app) == told[-2 * MOST_WHOLE :]
        await pilot.pause()
        app.query_one("#transcript").scroll_home(animate=False)
        await pilot.pause()
        await pilot.click(Earlier)
        await soon(pilot, lambda: "440 earlier exchanges" in text_of(app.query_one(Earlier)))
        assert whole(app) == told[-3 * MOST_WHOLE :]


async def test_a_conversation_that_goes_on_keeps_no_more_than_its_newest_exchanges_on_the_screen() -> None:
    told = [exchange(f"question {number}") for number in range(MOST_WHOLE)]
    app = Host(Scripted(Asked(1, "q"), Reasoned(1, "So.", "ok")))
    async with app.run_test() as pilot:
        await app.query_one(ChatPane).restart(told)
        await write(pilot, "And then?")
        await soon(pilot, lambda: bool(app.answered))
        assert whole(app) == [*told[1:], *app.answered]
        assert "1 earlier exchange:" in text_of(app.query_one(Earlier))
        await app.query_one(ChatPane).restart([])
        assert not app.query_one(Earlier).display


async def test_what_was_folded_from_the_beginning_is_there_when_it_is_unfolded() -> None:
    told = [exchange("first"), exchange("second")]
    app = Host(Scripted())
    async with app.run_test(size=(140, 45)) as pilot:
        await app.query_one(ChatPane).restart(told)
        older, newest = app.query(ExchangeView)
        assert not older.query(PassageLine)
        assert len(newest.query(PassageLine)) == sum(len(step.hits) for step in told[1].trajectory.steps)
        older.focus()
        await pilot.press("f")
        await pilot.pause()
        assert [line.hit for line in older.query(PassageLine)] == [hit for step in told[0].trajectory.steps for hit in step.hits]
        assert [line.rests for line in older.query(PassageLine)] == [line.rests for line in newest.query(PassageLine)]
        assert text_of(older.query(".rationale").first(Static)) == f"→ {told[0].trajectory.steps[0].rationale}"


async def test_a_run_of_a_conversation_that_was_left_is_no_part_of_the_next_one() -> None:
    app = Host(Scripted(Asked(1, "first"), wait=True))
    async with app.run_test() as pilot:
        chat = app.query_one(ChatPane)
        await write(pilot, "Who?")
        await soon(pilot, lambda: bool(app.query(StepView)))
        await chat.restart([exchange("another")])
        await soon(pilot, lambda: not chat.is_running)
        await pilot.pause()
        assert [one.asked for one in chat.exchanges] == ["another"]
        assert not app.answered


def whole(app: Host) -> list[Exchange | None]:
    return [view.finished for view in app.query(ExchangeView)]
