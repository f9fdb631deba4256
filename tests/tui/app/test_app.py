"""The cockpit as a whole: who serves is always told, panes come when they are looked at, conversations are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from textual.widgets import Static, TabbedContent

from tests.tui.app.test_chat import soon, text_of, write
from tui.app.app import TABS, Cockpit
from tui.app.chain import ExchangeView
from tui.app.choosing import ChoiceScreen
from tui.app.desk import Choice
from tui.app.history import HistoryPane
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
        await soon(pilot, lambda: app.conversation is not None)
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
