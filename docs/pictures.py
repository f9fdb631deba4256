"""The README's pictures, taken of real answers by the cockpit itself: python docs/pictures.py --demo runs/demo --out docs/pictures

Needs a finished demo (make demo). Teacher, base and student answer one of its questions, over names the student never met, side by
side; then the student goes through the gate into the base's seat and answers it in the chat. Nothing in the demo's folder is
changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList, TabbedContent, TextArea

from steper_agent.errors import ConfigError, StepERError, told
from steper_agent.retrieval import read_questions
from steper_agent.students.registry import Registry
from tui.app.app import TABS, Cockpit
from tui.app.chain import ExchangeView, PassageLine
from tui.app.compare import AnswerCell, ComparePane
from tui.app.composer import Composer
from tui.app.desk import Choice
from tui.app.picture import picture
from tui.app.swapping import Gate, SwapDecision, SwapProgress

BASE = Path("training/microworld/base")
SIZE, TALL = (130, 36), (130, 64)
"""Cells: wide enough for a run's two curves beside the list of runs, and high enough for three chains."""
TRIED, HOPS = 40, 3
"""Questions of the gate; hops of the question that is asked."""
PATIENCE = 600.0
"""Seconds until something that should have happened is given up on."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), metavar="DIR", help="a finished demo (default: runs/demo)")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), metavar="DIR", help="where they go (default: docs/pictures)")
    args = parser.parse_args(argv)
    try:
        asyncio.run(draw(args.demo, args.out))
    except (StepERError, OSError) as error:
        print(told(error), file=sys.stderr)
        return 2
    return 0


async def draw(demo: Path, out: Path) -> None:
    """Write chat.svg, compare.svg, students.svg and runs.svg into `out`.

    Raises:
        ConfigError: the demo is not finished.
    """
    if not (demo / "report.json").is_file():
        raise ConfigError("no finished demo", where=demo, fix="make demo")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        app = cockpit(demo, Path(made))
        async with app.run_test(size=SIZE) as pilot:
            app.animation_level = "none"
            await until(pilot, lambda: app.desk.serving(app.choice) != "")
            question = asked_in(demo)
            await pilot.resize_terminal(*TALL)
            # Before the swap: afterwards the student sits in the base's seat.
            await compared(app, pilot, question, f"local:{BASE}+{demo / 'distill' / 'student'}")
            keep(app, out / "compare.svg")
            await pilot.resize_terminal(*SIZE)
            await swapped(app, pilot)
            keep(app, out / "students.svg")
            await answered(app, pilot, question)
            keep(app, out / "chat.svg")
            await followed(app, pilot)
            keep(app, out / "runs.svg")


def cockpit(demo: Path, made: Path) -> Cockpit:
    """Over the demo's index of unseen names; its student is in a registry of its own, with the score it was judged by."""
    report = json.loads((demo / "report.json").read_text(encoding="utf-8"))
    registry = Registry(made / "registry")
    card = registry.add(demo / "distill" / "student", by="steper students add", reason="the demo's").card
    score = {name: report["student"][name] for name in ("em", "f1")}
    registry.promote(card.name, reason=f"EM {score['em']:.3f} on {report['student']['n']} questions", scores=score, by="steper students promote")
    questions = (demo / "test" / "questions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (made / "dev.jsonl").write_text("".join(questions[-TRIED:]), encoding="utf-8")
    return Cockpit(Choice(model=f"local:{BASE}", index=str(demo / "test" / "index"), k=3), registry=registry.folder, runs=demo,
                   conversations=made / "conversations.db", gate=Gate(made / "dev.jsonl"))  # fmt: skip


def asked_in(demo: Path) -> str:
    """The first of the demo's questions that takes several searches and that its student, judged there, answered right."""
    lines = (demo / "evaluate" / "student" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    right = {line["id"] for line in map(json.loads, lines) if line["em"] == 1}
    questions = read_questions(demo / "test" / "questions.jsonl")
    return next(one.text for one in questions if one.meta["hops"] == HOPS and one.id in right)


async def swapped(app: Cockpit, pilot: Pilot[None]) -> None:
    await go(app, pilot, "students")
    await until(pilot, lambda: app.query_one(DataTable).row_count == 2)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, SwapDecision))
    await pilot.press("g")
    await until(pilot, lambda: app.query_one(SwapProgress).course is not None and not app.query_one(SwapProgress).is_swapping)
    await until(pilot, lambda: "student@" in app.desk.serving(app.choice))
    await until(pilot, lambda: "● serving" in " ".join(map(str, app.query_one(DataTable).get_row_at(0))))


async def answered(app: Cockpit, pilot: Pilot[None], question: str) -> None:
    """The question in the chat, and the passage that its last step rests on beside it."""
    await go(app, pilot, "chat")
    await send(app, pilot, question, "#chat")
    await until(pilot, lambda: bool(app.query(ExchangeView)) and app.query_one(ExchangeView).finished is not None)
    [*(line for line in app.query(PassageLine) if line.rests)][-1].focus()
    await pilot.press("enter")


async def compared(app: Cockpit, pilot: Pilot[None], question: str, student: str) -> None:
    await go(app, pilot, "compare")
    for role, model in {"teacher": "symbolic", "base": f"local:{BASE}", "student": student}.items():
        app.query_one(ComparePane).query_one(f"#{role}", Input).value = model
    await send(app, pilot, question, "#compare")
    await until(pilot, lambda: len(app.query(AnswerCell)) == 3 and not any(worker.group == "compare" for worker in app.workers if worker.is_running))


async def followed(app: Cockpit, pilot: Pilot[None]) -> None:
    await go(app, pilot, "runs")
    folders = app.query_one("#folders", OptionList)
    await until(pilot, lambda: any("distill" in str(each.prompt) for each in folders.options))
    folders.highlighted = next(row for row, each in enumerate(folders.options) if "distill" in str(each.prompt))
    await until(pilot, lambda: bool(app.query("#loss")))


async def send(app: Cockpit, pilot: Pilot[None], text: str, tab: str) -> None:
    composer = app.query_one(tab).query_one(Composer).focus()
    composer.text = text
    await pilot.press("enter")


async def go(app: Cockpit, pilot: Pilot[None], tab: str) -> None:
    await pilot.press(f"f{[*TABS].index(tab) + 2}")
    await until(pilot, lambda: app.query_one(TabbedContent).active == tab and bool(app.query_one(f"#{tab}").children))


async def until(pilot: Pilot[None], happened: Callable[[], bool]) -> None:
    """Wait for it, and for the screen to show it.

    Raises:
        TimeoutError: it did not happen.
    """
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await pilot.pause(0.1)
    for widget in pilot.app.screen.query("*"):
        if isinstance(widget, Input | TextArea):
            widget.cursor_blink = False
    before, now = "", picture(pilot.app)
    while before != now:
        await pilot.pause(0.5)
        before, now = now, picture(pilot.app)


def keep(app: Cockpit, path: Path) -> None:
    path.write_text(picture(app), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    raise SystemExit(main())
