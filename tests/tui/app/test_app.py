"""The cockpit as a whole: who serves is always told, panes come when they are looked at, conversations are kept."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static, TabbedContent

from steper_agent.errors import DataError, ModelError
from steper_agent.models.slot import OnPhase, SwapReport
from steper_agent.records import Exchange
from steper_agent.students.registry import Registry
from tests.steper_agent.students.registries import name_of, reweighed
from tests.tiny import tiny_adapter
from tests.tui.app.exchanges import exchange
from tests.tui.app.hostile import FORBIDDEN
from tests.tui.app.test_chat import soon, text_of, write
from tui.app.app import TABS, Cockpit
from tui.app.chain import ExchangeView
from tui.app.chat import ChatPane
from tui.app.choosing import ChoiceScreen
from tui.app.composer import Composer
from tui.app.desk import Choice, Desk
from tui.app.history import HistoryPane
from tui.app.messages import Ended
from tui.app.runs import RunsPane
from tui.app.swapping import WORLD_QUESTIONS, Gate, SwapDecision, SwapProgress
from tui.cli import main


def cockpit(tmp_path: Path, **given: object) -> Cockpit:
    return Cockpit(**{"runs": tmp_path / "runs", "conversations": tmp_path / "c.db", "registry": None, **given})  # type: ignore[arg-type]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_a_conversation_is_kept_and_found_again(tmp_path: Path, size: tuple[int, int]) -> None:
    app = cockpit(tmp_path)
    async with app.run_test(size=size) as pilot:
        await soon(pilot, lambda: "symbolic-teacher" in text_of(app.query_one("#serving", Static)))
        await write(pilot, "What is the mother of Tendal Wimkin?")
        await soon(pilot, lambda: app.chat.talk.id is not None)
        await app.action_new()
        assert not app.query(ExchangeView)
        await pilot.press("f6")
        await soon(pilot, lambda: bool(app.query(HistoryPane)))
        await soon(pilot, lambda: app.conversations.count() == 1)
        kept = app.conversations.page(offset=0, limit=10)[0]
        app.query_one(HistoryPane).post_message(HistoryPane.Opened(kept))
        await soon(pilot, lambda: app.query_one(TabbedContent).active == "chat")
        assert app.query_one(ExchangeView).finished == app.conversations.exchanges(kept.id)[0]


@pytest.mark.usefixtures("world")
async def test_what_ends_while_another_conversation_is_opened_is_kept_in_its_own(tmp_path: Path) -> None:
    app = cockpit(tmp_path)
    async with app.run_test() as pilot:
        one = app.conversations.begin("")
        app.conversations.add(one.id, exchange("first"))
        left = app.chat.talk
        app.post_message(HistoryPane.Opened(one))
        await soon(pilot, lambda: app.chat.talk.id == one.id)
        app.chat.post_message(ChatPane.Answered(left, exchange("late")))
        await soon(pilot, lambda: left.id is not None)
        assert [kept.asked for kept in app.conversations.exchanges(one.id)] == ["first"]
        assert left.id
        assert [kept.asked for kept in app.conversations.exchanges(left.id)] == ["late"]
        assert app.chat.talk.id == one.id


@pytest.mark.usefixtures("world")
async def test_every_pane_is_one_key_away_and_made_when_it_is_looked_at(tmp_path: Path) -> None:
    app = cockpit(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        for number, tab in enumerate(TABS, start=2):
            await pilot.press(f"f{number}")
            await pilot.pause()
            assert app.query_one(TabbedContent).active == tab
            await soon(pilot, lambda tab=tab: bool(app.query_one(f"#{tab}").children))


@pytest.mark.usefixtures("world")
async def test_a_model_that_cannot_be_opened_is_told_and_another_is_chosen(tmp_path: Path) -> None:
    app = cockpit(tmp_path, choice=Choice(model="local:/nowhere"))
    async with app.run_test(size=(100, 40)) as pilot:
        await soon(pilot, lambda: bool(app._notifications))
        await pilot.press("ctrl+o")
        await soon(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        app.screen.query_one("#model").value = "symbolic"  # type: ignore[attr-defined]
        app.screen.query_one("#k").value = "none"  # type: ignore[attr-defined]
        app.screen.query_one("#k").focus()
        await pilot.press("enter")
        await pilot.pause()
        assert "✗ k" in text_of(app.screen.query_one("#fault", Static))
        app.screen.query_one("#k").value = "2"  # type: ignore[attr-defined]
        await pilot.press("enter")
        await soon(pilot, lambda: app.choice == Choice(k=2))
        await soon(pilot, lambda: "symbolic-teacher" in text_of(app.query_one("#serving", Static)))


class Refusing(Desk):
    async def open(self, choice: Choice) -> None:
        del choice
        raise ModelError("its \x1b[31mcard\u200b says \x9b2Jso", where="\u202esomewhere\x07", fix="mend\rit")


async def test_what_others_wrote_into_an_error_is_told_as_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = cockpit(tmp_path, choice=Choice(index="none"))
    app.desk = Refusing()
    kept = app.conversations.begin("")

    def damaged(_: str) -> list[Exchange]:
        raise DataError("not an \x1b]0;exchange\x07", where="\u2066here", fix="mend\x08it")

    monkeypatch.setattr(app.conversations, "exchanges", damaged)
    async with app.run_test() as pilot:
        app.post_message(HistoryPane.Opened(kept))
        await soon(pilot, lambda: len(app._notifications) == 2)
        told = [one.message for one in app._notifications]
        assert not FORBIDDEN & set("".join(told))
        assert all("\n  where: " in one and "\n  fix:   mend" in one for one in told)


@pytest.mark.usefixtures("world")
async def test_every_theme_has_its_colours(tmp_path: Path) -> None:
    app = cockpit(tmp_path)
    async with app.run_test() as pilot:
        for theme in ("textual-dark", "textual-light", "high-contrast"):
            app.theme = theme
            await pilot.pause()


def test_nothing_heavy_is_loaded_before_the_first_paint() -> None:
    code = "import tui.app.app, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "langgraph", "langchain_core", "faiss", "numpy"} & set(loaded)


def test_an_index_without_a_model_is_told_before_the_screen_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--index", str(tmp_path)]) == 2
    assert "fix:   give --model SPEC" in capsys.readouterr().err


BASE = Path(__file__).resolve().parents[3] / "training" / "microworld" / "base"
LOCAL = Choice(model=f"local:{BASE}", strategy="direct", max_tokens=4)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says what its base says."""
    folder = tmp_path_factory.mktemp("student")
    return reweighed(tiny_adapter(BASE, folder / "made"), folder / "student", 0.0)


@pytest.fixture
def registry(tmp_path: Path, student: Path) -> Registry:
    made = Registry(tmp_path / "registry")
    made.add(student)
    return made


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    file = tmp_path / "gate.jsonl"
    file.write_text("".join(json.dumps({"id": str(number), "question": f"Who wrote {number}?", "answers": ["Ann"]}) + "\n" for number in range(3)))
    return file


@pytest.mark.usefixtures("world")
def test_a_student_takes_the_seat_only_if_it_passes_the_gate(student: Path, gate: Path) -> None:
    desk, told = Desk(), list[tuple[str, str]]()

    def swap(gate: Gate | None) -> SwapReport:
        told.clear()
        return desk.swap(LOCAL, student, lambda phase, words: told.append((phase, words)), gate)

    refused = swap(Gate(gate, min_delta=50.0))
    before = desk.serving(LOCAL)
    assert (refused.ok, refused.after) == (False, before)
    assert all(words in refused.reason for words in ("EM 0.0 → 0.0 on 3 questions", "--min-delta", "without the gate"))
    assert [words for phase, words in told if phase == "gate"][1:-1] == [
        f"{who}: {done} of 3 questions" for who, first in ((before, 0), (name_of(student), 1)) for done in range(first, 4)
    ]
    assert desk.loaded == {before}

    passed = swap(Gate(gate))
    assert (passed.ok, desk.serving(LOCAL)) == (True, name_of(student))
    assert list(passed.seconds) == ["preflight", "load", "warm", "canary", "gate", "switch", "drain"]
    assert any(words.startswith("EM ") for _, words in told)
    desk.swap(LOCAL, None, lambda *_: None, Gate(gate, min_delta=50.0))
    assert desk.serving(LOCAL) == before, "going back passes no gate"
    assert "gate" not in swap(None).seconds


@pytest.mark.usefixtures("world")
async def test_the_bare_base_goes_on_answering_beside_the_student_in_its_seat(student: Path) -> None:
    desk = Desk()
    await desk.open(LOCAL)
    base = desk.serving(LOCAL)
    await asyncio.to_thread(desk.swap, LOCAL, student, lambda *_: None)

    async def model(choice: Choice) -> str:
        *_, ended = [told async for told in desk.ask("Who?", (), choice)]
        assert isinstance(ended, Ended)
        return ended.trajectory.model

    assert await model(LOCAL) == name_of(student)
    assert await model(LOCAL.model_copy(update={"bare": True})) == base


@pytest.mark.usefixtures("world")
def test_a_gate_without_questions_or_answers_is_told_before_anything_is_loaded(student: Path, tmp_path: Path) -> None:
    from steper_agent.errors import DataError

    (tmp_path / "unanswered.jsonl").write_text('{"id": "a", "question": "Who?"}\n')
    for name in ("none.jsonl", "unanswered.jsonl"):
        with pytest.raises(DataError):
            Desk().swap(LOCAL, student, lambda *_: pytest.fail("it began"), Gate(tmp_path / name))


def test_the_micro_worlds_own_questions_are_those_of_unseen_names_and_have_answers() -> None:
    from tui.app.gating import questions_of

    questions = questions_of(Gate())
    assert len({one.id for one in questions}) == WORLD_QUESTIONS
    assert all(one.answers for one in questions)


@pytest.mark.usefixtures("world")
async def test_who_is_live_in_the_registry_answers_and_whoever_goes_live_elsewhere_after_it(tmp_path: Path, registry: Registry, student: Path) -> None:
    registry.promote(name_of(student))
    app = cockpit(tmp_path, choice=LOCAL, registry=registry.folder, live=True)
    async with app.run_test() as pilot:
        await soon(pilot, lambda: name_of(student) in text_of(app.query_one("#serving", Static)))
        registry.rollback()
        await soon(pilot, lambda: "serving base@" in text_of(app.query_one("#serving", Static)))
        assert not app._notifications


@pytest.mark.usefixtures("world")
async def test_a_model_that_no_student_sits_in_follows_no_registry_and_says_so(tmp_path: Path, registry: Registry) -> None:
    app = cockpit(tmp_path, registry=registry.folder, live=True)
    async with app.run_test() as pilot:
        await soon(pilot, lambda: any("not followed" in one.title for one in app._notifications))
        assert "symbolic-teacher" in text_of(app.query_one("#serving", Static))


class Waiting(Desk):
    """A swap that is over when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go = threading.Event(), threading.Event()

    async def open(self, choice: Choice) -> None:
        del choice

    def swap(self, choice: Choice, folder: Path | None, on_phase: OnPhase, gate: Gate | None = None) -> SwapReport:
        del choice, folder, gate
        on_phase("load", "")
        self.began.set()
        assert self.go.wait(60)
        return SwapReport(before="a", after="b", seconds={}, ok=True)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    desk = Waiting()
    yield desk
    desk.go.set()


async def swapping(pilot: Pilot[None], desk: Waiting) -> None:
    """Up to the middle of a swap."""
    await soon(pilot, lambda: pilot.app.focused is pilot.app.query_one(Composer))
    await pilot.press("f4")
    await soon(pilot, lambda: bool(pilot.app.query("StudentsPane")) and pilot.app.query_one(DataTable).row_count == 2, 20)
    await pilot.press("s")
    await soon(pilot, lambda: isinstance(pilot.app.screen, SwapDecision))
    await pilot.press("w")
    await soon(pilot, desk.began.is_set)


@pytest.mark.usefixtures("world")
async def test_who_quits_in_a_swap_is_told_and_the_app_ends_when_it_is_over(tmp_path: Path, registry: Registry, waiting: Waiting) -> None:
    app = cockpit(tmp_path, registry=registry.folder)
    app.desk = waiting
    async with app.run_test() as pilot:
        await swapping(pilot, waiting)
        await pilot.press("ctrl+q")
        await soon(pilot, lambda: any("under way" in one.title for one in app._notifications))
        assert app.is_running
        assert app.return_code is None
        waiting.go.set()
        await soon(pilot, lambda: app.return_code == 0)
        assert app.query_one(SwapProgress).course.report.ok


@pytest.mark.usefixtures("world")
async def test_who_quits_twice_in_a_swap_waits_for_nothing(tmp_path: Path, registry: Registry, waiting: Waiting) -> None:
    app = cockpit(tmp_path, registry=registry.folder)
    app.desk = waiting
    async with app.run_test() as pilot:
        await swapping(pilot, waiting)
        await pilot.press("ctrl+q", "ctrl+q")
        await soon(pilot, lambda: app.return_code == 0)
        assert not waiting.go.is_set()


@pytest.mark.usefixtures("world")
async def test_a_run_that_was_started_elsewhere_is_followed_from_the_first_screen(tmp_path: Path) -> None:
    run = tmp_path / "elsewhere" / "collect"
    run.mkdir(parents=True)
    (run / "settings.json").write_text('{"teacher": "symbolic"}')
    app = cockpit(tmp_path, follow=run)
    async with app.run_test() as pilot:
        await soon(pilot, lambda: bool(app.query(RunsPane)))
        assert app.query_one(TabbedContent).active == "runs"
        await soon(pilot, lambda: any("collect" in text_of(name) for name in app.query("RunsPane #name").results(Static)))
        await pilot.press("f2")
        await soon(pilot, lambda: app.focused is app.query_one(Composer))


@pytest.mark.parametrize(("words", "fix"), [(["--live"], "--registry"), (["--gate", "none.jsonl"], "--gate")])
def test_what_cannot_be_is_told_before_the_screen_is_taken(
    words: list[str], fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEPER_REGISTRY", raising=False)
    assert main(["chat", *words]) == 2
    assert fix in capsys.readouterr().err.split("fix:")[1]
