"""Every screen of the cockpit as a picture, made of records that never change.

Where a screen is meant to look otherwise: pytest tests/tui/app/test_pictures.py --snapshot-update, then look at what changed.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from difflib import unified_diff
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual.pilot import Pilot
from textual.widgets import DataTable, HelpPanel, Input, OptionList, Static, TabbedContent, TextArea

from steper_agent.records import (
    Exchange,
    Hit,
    Passage,
    Question,
    Step,
    StudentCard,
    StudentEvent,
    Trajectory,
    Usage,
)
from steper_agent.retrieval.why import Place, Standing, Why
from tests.tui.app.exchanges import NOON
from tests.tui.app.test_chat import soon, write
from tests.tui.app.test_runs import DISTILL, dataset, point
from tests.tui.app.test_shelf import COLLECT, end, folder, node, written
from training.loop.curve import Curve
from tui.app.app import TABS, Cockpit
from tui.app.chain import ExchangeView, PassageLine
from tui.app.chat import Idea
from tui.app.choosing import ChoiceScreen
from tui.app.compare import ComparePane
from tui.app.conversations import Conversations
from tui.app.desk import Choice, Desk
from tui.app.history import ConversationList
from tui.app.messages import Asked, Found, Happening, Reasoned, Wrote
from tui.app.picture import picture, save_picture
from tui.app.trajectories import TrajectoryList
from tui.app.trajectory import TrajectoryView

QUESTION = "When was the author of Emma born?"
FOUND = (
    Hit(passage=Passage(id="emma-0", title="Emma (novel)", text="Emma is a novel of 1815. It was written by Jane Austen. It sold well."), score=9.125),
    Hit(passage=Passage(id="clueless-0", title="Clueless", text="Clueless is a film of 1995 after a novel [by Jane Austen]."), score=4.5),
)
THEN = (
    Hit(passage=Passage(id="austen-0", title="Jane Austen", text="Jane Austen was a novelist. She was born in 1775 in Steventon."), score=8.25),
    Hit(passage=Passage(id="cassandra-0", title="Cassandra Austen", text="Cassandra Austen was born in 1773."), score=6.0),
)
STEPS = (
    Step(query=QUESTION, hits=FOUND, rationale="Emma was written by Jane Austen."),
    Step(query="Emma was written by Jane Austen.", hits=THEN, rationale="Jane Austen was born in 1775. So the answer is: 1775."),
)
LOST = (STEPS[0].model_copy(update={"hits": FOUND[:1], "rationale": "Emma was written by Cassandra Austen. So the answer is: 1773."}),)


def told(steps: tuple[Step, ...], answer: str, model: str, seconds: float) -> Exchange:
    asked = Question(id="q", text=QUESTION)
    trajectory = Trajectory(question=asked, strategy="ircot", steps=steps, answer=answer, stop="answered", model=model, recipe="r")
    rests_on = (("emma-0",), ("austen-0",))[: len(steps)]
    return Exchange(time=NOON, asked=QUESTION, trajectory=trajectory, rests_on=rests_on, supported=answer == "1775", seconds=seconds,
                    usage=Usage(prompt_tokens=300 * len(steps), completion_tokens=20 * len(steps)))  # fmt: skip


class Quiet(Desk):
    """Serves from the start, begins to answer, and never comes to an end."""

    def serving(self, choice: Choice) -> str:
        del choice
        return "teacher@1"

    async def open(self, choice: Choice) -> None:
        del choice

    def question_ideas(self, choice: Choice, count: int = 4) -> list[str]:
        del choice
        return [QUESTION, "Who directed the film that was made after Emma?"][:count]

    async def why(self, choice: Choice, query: str, passage_id: str) -> Why:
        del choice, query, passage_id
        return Why(searches=("lexical", "dense"), lexical=Standing(rank=1, score=8.25), dense=Standing(rank=2, score=0.75), fused=1,
                   shared=("jane", "austen"), lacking=("emma", "written"), words=("jane", "austen"),
                   place=Place(path="papers/novelists.txt", line=3, is_copy=False))  # fmt: skip

    async def ask(self, asked: str, history: Sequence[Exchange], choice: Choice) -> AsyncGenerator[Happening]:
        del asked, history, choice
        first, second = STEPS
        for happening in (Asked(1, first.query), Found(1, first.hits), Reasoned(1, first.rationale, "ok"), Asked(2, second.query),
                          Found(2, second.hits), Wrote(2, "Jane Austen was")):  # fmt: skip
            yield happening
        await asyncio.Event().wait()


async def welcome(app: Cockpit, pilot: Pilot[None]) -> None:
    await soon(pilot, lambda: bool(app.query(Idea)))


async def under_way(app: Cockpit, pilot: Pilot[None]) -> None:
    await write(pilot, QUESTION)
    await soon(pilot, lambda: "Jane Austen was" in "".join(str(one.visual) for one in app.query(".rationale")))  # type: ignore[attr-defined]


async def answered(app: Cockpit, pilot: Pilot[None]) -> None:
    await app.chat.restart([told(STEPS, "1775", "student@0a1b2c3d4e5f", 1.25)])
    await soon(pilot, lambda: app.query(ExchangeView).last().finished is not None)
    next(line for line in app.query(PassageLine) if line.hit == THEN[0]).focus()
    await pilot.press("enter")


async def go(app: Cockpit, pilot: Pilot[None], tab: str) -> None:
    """To another tab, once the first is drawn."""
    await welcome(app, pilot)
    await still(app, pilot)
    await pilot.press(f"f{[*TABS].index(tab) + 2}")
    await soon(pilot, lambda: app.query_one(TabbedContent).active == tab and bool(app.query_one(f"#{tab}").children))


async def compared(app: Cockpit, pilot: Pilot[None]) -> None:
    await go(app, pilot, "compare")
    await app.query_one(ComparePane).show(QUESTION, [told(STEPS, "1775", "teacher@1", 2.5), told(LOST, "1773", "base@000000000000", 0.5)])


async def students(app: Cockpit, pilot: Pilot[None]) -> None:
    await go(app, pilot, "students")
    await soon(pilot, lambda: app.query_one(DataTable).row_count == 3)


async def runs(app: Cockpit, pilot: Pilot[None], name: str = "collect") -> None:
    await go(app, pilot, "runs")
    folders = app.query_one("#folders", OptionList)
    await soon(pilot, lambda: folders.option_count == 3)
    folders.highlighted = next(row for row, each in enumerate(folders.options) if name in str(each.prompt))
    wanted = {"collect": "#list", "distill": "#loss", "dataset": "#mask"}[name]
    await soon(pilot, lambda: bool(app.query(wanted)))


async def curves(app: Cockpit, pilot: Pilot[None]) -> None:
    await runs(app, pilot, "distill")


async def trajectory(app: Cockpit, pilot: Pilot[None]) -> None:
    await runs(app, pilot)
    await soon(pilot, lambda: bool(app.query_one(TrajectoryList).places))
    app.query_one(TrajectoryList).focus()
    await pilot.press("enter")
    await soon(pilot, lambda: bool(app.query(TrajectoryView)))


async def mask(app: Cockpit, pilot: Pilot[None]) -> None:
    await runs(app, pilot, "dataset")
    await soon(pilot, lambda: "word2" in str(app.query_one("#mask", Static).visual))


async def conversations(app: Cockpit, pilot: Pilot[None]) -> None:
    await go(app, pilot, "conversations")
    await soon(pilot, lambda: app.query_one(ConversationList).chosen is not None)


async def choice(app: Cockpit, pilot: Pilot[None]) -> None:
    await welcome(app, pilot)
    await pilot.press("ctrl+o")
    await soon(pilot, lambda: isinstance(app.screen, ChoiceScreen))


async def keys(app: Cockpit, pilot: Pilot[None]) -> None:
    await welcome(app, pilot)
    await pilot.press("f1")
    await soon(pilot, lambda: bool(app.query(HelpPanel)))


SCENES = (welcome, under_way, answered, compared, students, runs, curves, trajectory, mask, conversations, choice, keys)
THEMES = {"dark": "textual-dark", "light": "textual-light", "contrast": "high-contrast"}
NARROW, WIDE = (80, 24), (140, 45)


class Drawing(SingleFileSnapshotExtension):
    file_extension = "svg"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cockpit:
    """A cockpit with students, runs and conversations to show, at an hour that stands still."""
    for name in ("NO_COLOR", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tui.app.runs.time", SimpleNamespace(time=NOON.timestamp))
    monkeypatch.setattr("tui.app.mask_page.open_decoder", lambda _: lambda ids: " ".join(f"word{id}" for id in ids) + " ")
    fill_registry(tmp_path / "registry")
    fill_runs(tmp_path / "runs")
    fill_conversations(tmp_path / "conversations.db")
    app = Cockpit(registry=tmp_path / "registry", runs=tmp_path / "runs", conversations=tmp_path / "conversations.db")
    app.desk = Quiet()
    app.animation_level = "none"
    return app


def fill_registry(root: Path) -> None:
    """Two students, of which the newer one is live."""
    root.mkdir()
    events = []
    for number, digits in enumerate(("0a1b2c3d4e5f", "3f9a00112233")):
        name, at = f"student@{digits}", NOON + timedelta(hours=number)
        card = StudentCard(name=name, content="c" * 64, base="b" * 64, form="adapter", target="cumulative", view="stepwise", data="d" * 64,
                           sigma={"initialization": 0.5, "expansion": 0.75, "aggregation": 1.0 + number}, weighting="learned",
                           scores={"em": 0.5 + number / 4}, parameters=327_680, created_by="python -m training.demo")  # fmt: skip
        (root / "students" / digits).mkdir(parents=True)
        (root / "students" / digits / "student.json").write_text(card.model_dump_json())
        events.append(StudentEvent(time=at, action="added", student=name, base="b" * 64, by="steper students add", scores=card.scores))
    events.append(events[-1].model_copy(update={"action": "promoted", "reason": "EM 0.75 on dev"}))
    (root / "history.jsonl").write_text("".join(event.model_dump_json() + "\n" for event in events))


def fill_runs(root: Path) -> None:
    """A finished collection, a data set, and a distillation that runs for ever."""
    made = folder(root, "collect", COLLECT, report={"finished": 3, "already": 0, "seconds": 6.0, "failed": 0})
    for number in range(3):
        asked, answer = f"{QUESTION[:-1]} ({number})?", "1775" if number else "1773"
        for step, one in enumerate(STEPS, start=1):
            run = f"q{number}"
            written(made / "journal.jsonl", node(run, "form_query", step, output=one.query, input=asked),
                    node(run, "retrieve", step, output="", hits=one.hits), node(run, "reason", step, output=one.rationale, input=asked))
        written(made / "journal.jsonl", end(run, answer=answer, gold=("1775",), text=asked))
    card = {"examples": {"expansion": 3}, "trajectories": {"read": 9, "kept": 3}, "base": "x", "tokens": 18, "learned_tokens": 9,
            "view": "stepwise", "target": "cumulative", "examples_too_long": 0}  # fmt: skip
    (dataset(root) / "card.json").write_text(json.dumps(card))
    curve = Curve(folder(root, "distill", DISTILL) / "curve.jsonl")
    for step in range(1, 31):
        curve.append(point(step))
    for file in root.rglob("*.*"):
        moment = NOON + timedelta(days=365 * 100) if file.parent.name == "distill" else NOON - timedelta(minutes=5)
        os.utime(file, (moment.timestamp(),) * 2)


def fill_conversations(path: Path) -> None:
    store = Conversations(path)
    for number in range(3):
        store.add(store.begin(f"{QUESTION[:-1]} ({number})?").id, told(STEPS, "1775", "teacher@1", 1.0))
    store.close()
    base = sqlite3.connect(path)
    with base:
        base.execute("UPDATE conversation SET updated = '2026-03-0' || rowid || 'T12:00:00.000000+00:00'")
    base.close()


async def still(app: Cockpit, pilot: Pilot[None]) -> str:
    """The picture, once nothing moves any more: what was begun is done (but for an answer that never ends), no cursor blinks."""
    for widget in app.screen.query("*"):
        if isinstance(widget, Input | TextArea):
            widget.cursor_blink = False
    await soon(pilot, lambda: not any(worker.is_running and worker.group != "ask" for worker in app.workers))
    before, now = "", picture(app)
    while before != now:
        await pilot.wait_for_scheduled_animations()
        await pilot.pause()
        before, now = now, picture(app)
    return now


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_every_screen_looks_as_it_did(
    app: Cockpit, snapshot: SnapshotAssertion, tmp_path: Path, scene: Callable[[Cockpit, Pilot[None]], Awaitable[None]]
) -> None:
    snapshot, changed = snapshot.use_extension(Drawing), []
    async with app.run_test(size=NARROW) as pilot:
        await scene(app, pilot)
        for size in (NARROW, WIDE):
            await pilot.resize_terminal(*size)
            for theme in ("dark", "light", *(["contrast"] if (scene, size) == (answered, NARROW) else [])):
                app.theme = THEMES[theme]
                drawn, name = await still(app, pilot), f"{size[0]}x{size[1]}-{theme}"
                if drawn != snapshot(name=name):
                    changed.append(difference(drawn, snapshot, tmp_path / f"{name}.svg"))
    assert not changed, "\n\n".join(changed)


def difference(drawn: str, kept: SnapshotAssertion, now: Path) -> str:
    """What to look at, and what to do."""
    result = kept.executions[kept.num_executions - 1]
    now.write_text(drawn, encoding="utf-8")
    before, after = words(str(result.recalled_data or "")), words(drawn)
    lines = [line for line in unified_diff(before, after, n=0, lineterm="") if not line.startswith(("---", "+++", "@@"))]
    return "\n".join((f"the screen does not look as it did\n  before: {result.snapshot_location}\n  now:    {now}\n"
                      "  fix:    open both in a browser; if it is meant: pytest tests/tui/app/test_pictures.py --snapshot-update",
                      *(lines or ["the words are the same: colours or styles differ"])))  # fmt: skip


def words(svg: str) -> list[str]:
    """The lines of a picture, as text."""
    rows: dict[int, str] = {}
    for row, text in re.findall(r"line-(\d+)\)\">([^<]*)</text>", svg):
        rows[int(row)] = rows.get(int(row), "") + html.unescape(text)
    return [rows[row] for row in sorted(rows)]


async def test_a_picture_is_a_whole_svg_that_fetches_nothing(app: Cockpit) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await welcome(app, pilot)
        drawn = picture(app)
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"@font-face|url\((?!#)|https?://(?!www\.w3\.org/2000/svg|www\.textualize\.io)", drawn)
    assert any(QUESTION in line.replace("\xa0", " ") for line in words(drawn))


async def test_the_same_screen_is_the_same_picture_and_another_is_not(app: Cockpit) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await welcome(app, pilot)
        await still(app, pilot)
        first = picture(app)
        assert picture(app) == first
        await choice(app, pilot)
        assert picture(app) != first


async def test_a_picture_is_saved_in_this_folder_and_nothing_is_overwritten(app: Cockpit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.app.picture.SETTLED", 0.01)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    async with app.run_test(size=NARROW) as pilot:
        await welcome(app, pilot)
        for number in (1, 2):
            save_picture(app)
            await soon(pilot, lambda number=number: len(app._notifications) == number)  # type: ignore[misc]
        told = [note.message for note in app._notifications]
    files = sorted(Path.cwd().iterdir())
    assert [file.name for file in files] == ["StepER-2.svg", "StepER.svg"]
    assert sorted(told) == [str(file) for file in files]


async def test_where_nothing_can_be_written_it_is_told_and_the_app_lives_on(app: Cockpit, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tui.app.history.save", full)
    monkeypatch.setattr("tui.app.picture.SETTLED", 0.01)
    async with app.run_test(size=NARROW) as pilot:
        save_picture(app)
        await soon(pilot, lambda: bool(app._notifications))
        assert "No space left" in next(iter(app._notifications)).message


async def test_the_command_palette_saves_a_picture(app: Cockpit) -> None:
    async with app.run_test(size=NARROW):
        titles = [command.title for command in app.get_system_commands(app.screen)]
    assert titles.count("Save picture") == 1
    assert "Screenshot" not in titles
