"""The runs: every run folder, what it does, and the chosen one live. Nothing here starts or stops a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar, Protocol, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.app.demo_page import DemoPage
from tui.app.journal_page import JournalPage
from tui.app.mask_page import DatasetPage
from tui.app.shelf import SIGNS, RunFolder, Shelf
from tui.app.speed import lasting
from tui.app.text import inert, one_line

EVERY = 1.0
"""Seconds between two looks at the folders."""
NARROW = 100
"""Cells; below, the list stands above the chosen run."""
NOTHING = """No run yet.

A run is a folder made by one of these; it shows up here by itself, and can be followed while it runs elsewhere:

  make demo                      the whole loop on the micro-world
  python -m training.collect     a teacher answers questions
  python -m training.dataset     examples from its journal
  python -m training.distill     a student learns them
  python -m training.evaluate    a model is judged
"""


class Page(Protocol):
    """What shows a run folder; it is told when the folder changed."""

    def show(self, run: RunFolder) -> None: ...

    def enter(self) -> None:
        """Take the keyboard."""


class RunsPane(Container):
    """Run folders below `root` on the left (on top where it is narrow), the chosen one beside them."""

    DEFAULT_CSS = """
    RunsPane { layout: horizontal; height: 1fr; }
    RunsPane #folders { width: 38; height: 1fr; border: none; border-right: solid $border-blurred; padding: 0; text-wrap: nowrap; text-overflow: ellipsis; }
    RunsPane #folders:focus { border: none; border-right: solid $border; }
    RunsPane #chosen { width: 1fr; height: 1fr; }
    RunsPane #name { height: 1; padding: 0 1; text-style: bold; }
    RunsPane #hint { padding: 1 2; height: auto; }
    RunsPane.-narrow { layout: vertical; }
    RunsPane.-narrow #folders { width: 100%; height: auto; max-height: 5; border: none; border-bottom: solid $border-blurred; }
    RunsPane.-narrow #folders:focus { border: none; border-bottom: solid $border; }
    RunsPane.-zoomed #folders { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("z", "zoom", "Hide list")]

    class Found(Message):
        """The folders as they are now."""

        def __init__(self, runs: list[RunFolder]) -> None:
            super().__init__()
            self.runs = runs

    def __init__(self, root: Path, *, follow: Path | None = None) -> None:
        super().__init__()
        self.shelf = Shelf(root)
        self.runs: dict[Path, RunFolder] = {}
        self.chosen: Path | None = self.shelf.name(follow) if follow else None
        """The folder that is shown; it may not be there yet."""
        self._paths: list[Path] = []
        """Of the lines of the list."""
        self._page: tuple[Path, str] | None = None
        self._is_looking = False

    def compose(self) -> ComposeResult:
        yield OptionList(id="folders", markup=False)
        with Container(id="chosen"):
            yield Static("", id="name", markup=False)
            yield Static("looking for runs …", id="hint", markup=False)

    def on_mount(self) -> None:
        self.set_interval(EVERY, self.look)
        self.look()

    def on_resize(self) -> None:
        is_narrow = self.size.width < NARROW
        if is_narrow != self.has_class("-narrow"):
            self.set_class(is_narrow, "-narrow")
            self._list()

    def choose(self, folder: Path) -> None:
        """Follow this folder, wherever it is; one that does not exist yet is shown as soon as a run begins in it."""
        self.chosen = self.shelf.name(folder)
        self.look()
        self._turn()

    def look(self) -> None:
        """Look at the folders, unless that is being done."""
        if not self._is_looking:
            self._is_looking = True
            self._look()

    @work(thread=True, group="look", exit_on_error=False)
    def _look(self) -> None:
        try:
            self.post_message(self.Found(self.shelf.look()))
        finally:
            self._is_looking = False

    def on_runs_pane_found(self, found: Found) -> None:
        self.runs = {run.path: run for run in found.runs}
        if self.chosen not in self.runs:
            # Of a folder that is no run but holds some, one of those is meant.
            meant = [run for run in found.runs if self.chosen is None or self.chosen in run.path.parents]
            self.chosen = next((run.path for run in [*(run for run in meant if run.state == "running"), *meant]), self.chosen)
        self._list()
        self._turn()

    def _list(self) -> None:
        """The list, changed only where something changed, so that its cursor stays."""
        folders = self.query_one("#folders", OptionList)
        lines = {str(number): self._line(run) for number, run in enumerate(self.runs.values())}
        paths = list(self.runs)
        if folders.option_count == len(lines) and self._paths == paths:
            for key, line in lines.items():
                if folders.get_option(key).prompt != line:
                    folders.replace_option_prompt(key, line)
            return
        self._paths = paths
        folders.set_options([Option(line, id=key) for key, line in lines.items()])
        if self.chosen in paths:
            folders.highlighted = paths.index(self.chosen)

    def _line(self, run: RunFolder) -> Content:
        inside = next((path for path in run.path.parents if path in self.runs), None)
        name = one_line(str(run.path.relative_to(inside)) if inside else run.name, 60)
        indent = "  " if inside else ""
        kind = "" if run.kind == run.path.name else f"{run.kind}, "
        idle = max(0.0, time.time() - run.changed)
        ago = "" if run.state == "running" else f", {lasting(idle)} ago" if idle >= 60 else ", just now"
        head, about = Content.assemble(f"{indent}{SIGNS[run.state]} ", (name, "bold"), f"  {kind}{run.state}"), f"{run.progress}{ago}"
        return Content.assemble(head, f": {about}" if self.has_class("-narrow") else (f"\n{indent}  {about}", "dim"))

    @on(OptionList.OptionHighlighted, "#folders")
    def _choose(self, highlighted: OptionList.OptionHighlighted) -> None:
        if highlighted.option.id is not None and int(highlighted.option.id) < len(self._paths):
            self.chosen = self._paths[int(highlighted.option.id)]
            self._turn()

    @on(OptionList.OptionSelected, "#folders")
    def _enter(self) -> None:
        for page in self.query("#chosen > .page"):
            cast(Page, page).enter()

    def action_zoom(self) -> None:
        """All the room for the chosen run, and back."""
        self.toggle_class("-zoomed")
        if self.has_class("-zoomed"):
            self._enter()

    def _turn(self) -> None:
        """Show the chosen run: by the page that is there, or a new one for another folder or kind."""
        self.call_next(self._show)

    async def _show(self) -> None:
        run = self.runs.get(self.chosen) if self.chosen else None
        wanted = (run.path, run.kind) if run else None
        self._tell(run)
        if wanted != self._page:
            self._page = wanted
            await self.query("#chosen > .page").remove()
            if run:
                page = _page(run)
                page.add_class("page")
                await self.query_one("#chosen").mount(page)
        # None where the app ends meanwhile.
        for page in self.query("#chosen > .page") if run else ():
            cast(Page, page).show(cast(RunFolder, run))

    def _tell(self, run: RunFolder | None) -> None:
        hint = self.query_one("#hint", Static)
        hint.display = run is None
        hint.update(inert(f"Waiting for a run in {self.chosen}" if self.chosen else NOTHING))
        name = Content.assemble(f"{SIGNS[run.state]} ", inert(one_line(run.name)), f"  {run.kind}, {run.state}") if run else ""
        self.query_one("#name", Static).update(name)


def _page(run: RunFolder) -> Widget:
    if run.kind == "distill":
        # The plotting library takes a fifth of a second to load.
        from tui.app.curves import DistillPage

        return DistillPage(run)
    if run.kind == "dataset":
        return DatasetPage(run)
    return DemoPage(run) if run.kind == "demo" else JournalPage(run)
