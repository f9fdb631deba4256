"""The cockpit: chat, compare, students, runs and conversations, and on every screen who is serving."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Footer, Static, TabbedContent, TabPane

from steper_agent.errors import StepERError
from steper_agent.records import Exchange
from tui.app.chat import ChatPane, Talk
from tui.app.choosing import ChoiceScreen
from tui.app.conversations import Conversations
from tui.app.crash import WatchedWorkers
from tui.app.desk import WORLD, Choice, Desk
from tui.app.picture import save_picture
from tui.app.swapping import Gate, SwapProgress
from tui.app.text import one_line, shown

if TYPE_CHECKING:
    from steper_agent.models.slot import OnPhase, SwapReport
    from steper_agent.students.registry import Hold
    from tui.app.compare import ComparePane
    from tui.app.history import HistoryPane

CONTRAST = Theme(
    name="high-contrast", dark=True, primary="#ffff00", secondary="#00ffff", accent="#ffff00", foreground="#ffffff",
    background="#000000", surface="#000000", panel="#000000", success="#00ff00", warning="#ffff00", error="#ff8080",
    variables={"text-muted": "#ffffff", "border": "#ffff00", "border-blurred": "#ffffff", "block-cursor-foreground": "#000000",
               "block-cursor-background": "#ffff00"},
)  # fmt: skip
FIRST = {"chat": "Composer", "compare": "Composer", "students": "DataTable, #beside"}
"""What a tab's keys go to at first; elsewhere to whatever takes them."""
TABS = {"chat": "Chat", "compare": "Compare", "students": "Students", "runs": "Runs", "conversations": "Conversations"}


class Panes(TabbedContent):
    """The keys follow the tab, never the tab the keys: a focus that comes late would call back a tab that was left meanwhile."""

    def _on_tab_pane_focused(self, focused: TabPane.Focused) -> None:
        focused.prevent_default()


class Cockpit(App[None]):
    """Draws; the desk thinks. What opens a file or a model does so in a thread, behind the first paint.

    `gate`: what a student passes before it is swapped in. `live`: whoever is live in the registry answers. `follow`: the folder of a
    run to look at first; it may not be there yet.
    """

    TITLE = "StepER"
    CSS = """
    #serving { height: 1; padding: 0 1; background: $panel; }
    TabbedContent { height: 1fr; }
    TabbedContent > ContentSwitcher { height: 1fr; }
    TabPane { padding: 0; height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(f"f{number}", f"show('{tab}')", title, priority=True, show=False) for number, (tab, title) in enumerate(TABS.items(), start=2)),
        Binding("f1", "show_help_panel", "Help"),
        Binding("ctrl+n", "new", "New conversation"),
        Binding("ctrl+o", "choose", "Model …"),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(self, choice: Choice | None = None, *, registry: Path | None = None, runs: Path = Path("runs"),
                 conversations: Path | None = None, gate: Gate | None = None, live: bool = False,
                 follow: Path | None = None) -> None:  # fmt: skip
        super().__init__()
        self._workers = WatchedWorkers(self)
        self.choice = choice or Choice()
        self.registry_folder = registry
        self.runs = runs
        self.desk = Desk([registry / "students"] if registry else [], follow=registry if live else None)
        self.gate, self.live, self.follow = gate or Gate(), live, follow
        self._holds: dict[str, Hold] = {}
        self._is_leaving = False
        self.conversations = Conversations(conversations)
        self._told = ""
        self.register_theme(CONTRAST)

    def compose(self) -> ComposeResult:
        yield Static("", id="serving", markup=False)
        with Panes(initial="runs" if self.follow else "chat"):
            for number, (tab, title) in enumerate(TABS.items(), start=2):
                with TabPane(f"F{number} {title}", id=tab):
                    if tab == "chat":
                        yield ChatPane(self.desk, self.choice)
        yield Footer()

    def on_mount(self) -> None:
        self._tell_who_serves()
        self.set_interval(1.0, self._tell_who_serves)
        # Whoever sends a plain kill gets the terminal back as it was, too.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        # Behind the first paint, so that the first question need not wait for it.
        self.call_after_refresh(lambda: self.run_worker(self._open(), group="open", exit_on_error=False))

    def _end(self) -> None:
        self.exit(return_code=128 + signal.SIGTERM)

    async def action_quit(self) -> None:
        """At once; only a swap is waited for, unless it is asked for again."""
        if self._is_swapping and not self._is_leaving:
            self._is_leaving = True
            self.notify("The app ends when the swap is over. ctrl+q once more ends it now.", title="A swap is under way",
                        severity="warning", timeout=60, markup=False)
        else:
            self.exit()

    @property
    def _is_swapping(self) -> bool:
        return any(progress.is_swapping for progress in self.query(SwapProgress))

    @property
    def chat(self) -> ChatPane:
        return self.query_one(ChatPane)

    def action_show(self, tab: str) -> None:
        self.set_focus(None)
        self.query_one(Panes).active = tab

    async def on_tabbed_content_tab_activated(self, activated: TabbedContent.TabActivated) -> None:
        """A pane is made when it is first looked at."""
        pane = activated.pane
        if not pane.children:
            await pane.mount(self._pane(str(pane.id)))
        elif pane.id == "conversations":
            from tui.app.history import HistoryPane

            pane.query_one(HistoryPane).refresh_list()
        self._give_keys(pane)

    def on_tab_pane_focused(self, focused: TabPane.Focused) -> None:
        active = self._active
        if active and active is not focused.tab_pane:
            self._give_keys(active)

    @property
    def _active(self) -> TabPane | None:
        """None where the screen is not made yet, or gone."""
        return next((panes.active_pane for panes in self.query(Panes)), None)

    def _give_keys(self, pane: TabPane) -> None:
        # It may have been left meanwhile, or the app.
        if self._active is pane:
            self.set_focus(next((one for one in pane.query(FIRST.get(str(pane.id), "*")) if one.focusable), None))

    def _pane(self, tab: str) -> Widget:
        # Imported when it is looked at, so that the first paint need not wait for it.
        if tab == "conversations":
            from tui.app.history import HistoryPane

            return HistoryPane(self.conversations)
        if tab == "compare":
            from tui.app.compare import ComparePane

            return ComparePane(self.desk, self.choice, self._rivals())
        if tab == "students":
            return self._students_pane()
        from tui.app.runs import RunsPane

        return RunsPane(self.runs, follow=self.follow)

    def _students_pane(self) -> Widget:
        from steper_agent.students.registry import Registry
        from tui.app.students import StudentsPane

        registry = Registry(self.registry_folder) if self.registry_folder else None
        return StudentsPane(
            registry, serving=lambda: self.desk.serving(self.choice), swap=self._swap if registry else None,
            gate=lambda: self.gate.about(has_world=self.choice.index == WORLD), follows=self.live,
        )  # fmt: skip

    def _rivals(self) -> tuple[str, ...]:
        """What to compare first: the teacher of the micro-world, the base, and the student in its seat, if there is one."""
        if self.choice.model == "symbolic":
            return ("symbolic",)
        teacher = "symbolic" if self.choice.index == WORLD else ""
        is_seated = self.desk.serving(self.choice).startswith("student@")
        return (teacher, self.choice.model, self.choice.model if is_seated else "")

    def _swap(self, name: str | None, on_phase: OnPhase, is_gated: bool) -> SwapReport:
        """In a thread. Students that are loaded here are held against pruning."""
        from steper_agent.students.registry import Registry

        if name and self.registry_folder and name not in self._holds:
            self._holds[name] = Registry(self.registry_folder).hold(name)
        try:
            return self.desk.swap(self.choice, self._holds[name].path if name else None, on_phase, self.gate if is_gated else None)
        finally:
            for gone in self._holds.keys() - self.desk.loaded:
                self._holds.pop(gone).release()

    def on_students_pane_swapped(self) -> None:
        self._tell_who_serves()

    async def action_new(self) -> None:
        await self.chat.restart([])
        self.action_show("chat")

    def action_choose(self) -> None:
        def chosen(choice: Choice | None) -> None:
            if choice:
                self.choice = choice
                self.chat.choose(choice)
                for pane in self.query("ComparePane"):
                    cast("ComparePane", pane).choice = choice
                self._tell_who_serves()
                self.run_worker(self._open(), group="open", exit_on_error=False)

        self.push_screen(ChoiceScreen(self.choice), chosen)

    async def on_chat_pane_answered(self, answered: ChatPane.Answered) -> None:
        """Kept before anything else can happen to it."""
        try:
            await asyncio.to_thread(self._keep, answered.talk, answered.exchange)
        except (StepERError, OSError) as full:
            self.notify(f"The exchange is not kept: {one_line(str(full))}", severity="error", timeout=15, markup=False)

    def _keep(self, talk: Talk, exchange: Exchange) -> None:
        id = talk.id or self.conversations.begin("").id
        self.conversations.add(id, exchange)
        talk.id = id

    async def on_history_pane_opened(self, opened: HistoryPane.Opened) -> None:
        try:
            exchanges = await asyncio.to_thread(self.conversations.exchanges, opened.conversation.id)
        except StepERError as damaged:
            self.notify(shown(str(damaged)), title="The conversation cannot be opened", severity="error", timeout=15, markup=False)
            return
        await self.chat.restart(exchanges, opened.conversation.id)
        self.action_show("chat")

    def on_history_pane_deleted(self, deleted: HistoryPane.Deleted) -> None:
        """What is still on the screen goes on as a new conversation."""
        if deleted.conversation.id == self.chat.talk.id:
            self.chat.talk.id = None

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield from (each for each in super().get_system_commands(screen) if each.title != "Screenshot")
        yield SystemCommand("Save picture", "Write the screen into this folder as an SVG", lambda: save_picture(self))
        yield SystemCommand("New conversation", "Begin with an empty chat", self.action_new)
        yield SystemCommand("Model, index, strategy …", "Choose how the next question is answered", self.action_choose)
        for tab, title in TABS.items():
            yield SystemCommand(title, f"Show {title.lower()}", lambda tab=tab: self.action_show(tab))

    async def _open(self) -> None:
        try:
            await self.desk.open(self.choice)
        except StepERError as refused:
            self.notify(shown(str(refused)), title="The model or the index cannot be opened", severity="error", timeout=30, markup=False)
        else:
            if self.live and not self.desk.follows(self.choice):
                self.notify("No student can take the seat of this model (choose local:PATH or vllm:PATH).", title="The registry is not followed",
                            severity="warning", timeout=15, markup=False)
        self._tell_who_serves()

    def _tell_who_serves(self) -> None:
        """Every second, since another process may decide it; and a swap that an end was waiting for may be over."""
        if self._is_leaving and not self._is_swapping:
            self.exit()
        serving = self.desk.serving(self.choice)
        told = f"serving {serving}" if serving else f"opening {one_line(self.choice.model)} …"
        if told == self._told:
            return
        self._told = told
        # The last beat may come when the screen is gone.
        for line in self.query("#serving").results(Static):
            line.update(Content.assemble(("StepER  ", "bold"), told))
