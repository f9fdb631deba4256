"""How a question is answered: model, index, strategy and budget, in one small form."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid, Horizontal
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from tui.app.desk import WORLD, Choice
from tui.app.field import Field
from tui.app.text import inert, one_line
from tui.arguments import STRATEGIES

FIELDS = {
    "model": "symbolic, local:PATH, local:PATH+STUDENT, vllm:PATH, openai:NAME, …",
    "index": f"folder made by `steper index build`, address of `steper index serve`, or {WORLD}",
    "k": "passages a search returns", "steps": "step budget", "max_tokens": "most tokens in one step",
}  # fmt: skip


class ChoiceScreen(ModalScreen[Choice | None]):
    """Gives the new choice back, or None where it was left as it is. With a question that is asked again, it is about that one
    alone, and says so."""

    DEFAULT_CSS = """
    ChoiceScreen { align: center middle; }
    ChoiceScreen #form { width: 90%; max-width: 90; height: auto; padding: 1 2; background: $surface; border: thick $primary;
                         grid-size: 2; grid-columns: 14 1fr; grid-rows: auto; grid-gutter: 1; }
    ChoiceScreen Input, ChoiceScreen Select { width: 100%; }
    ChoiceScreen #fault { column-span: 2; color: $text-error; height: auto; }
    ChoiceScreen #buttons { column-span: 2; height: auto; align-horizontal: right; }
    """
    BINDINGS = [Binding("escape", "leave", "Leave as it is")]

    def __init__(self, choice: Choice, *, again: str = "") -> None:
        super().__init__()
        self.choice = choice
        self.again = again

    def compose(self) -> ComposeResult:
        with Grid(id="form") as form:
            form.border_title = Content.assemble("Ask again, this once: ", one_line(self.again, 80)) if self.again else None
            for name, told in FIELDS.items():
                yield Label(name.replace("_", " "))
                yield Field(str(getattr(self.choice, name)), placeholder=told, id=name, compact=True)
            yield Label("strategy")
            yield Select.from_values(dict.fromkeys((*STRATEGIES, self.choice.strategy)), value=self.choice.strategy, allow_blank=False, id="strategy", compact=True)
            yield Static("", id="fault", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Ask" if self.again else "Use it", variant="primary", id="use")
                yield Button("Leave", id="leave")

    def on_button_pressed(self, pressed: Button.Pressed) -> None:
        self._use() if pressed.button.id == "use" else self.action_leave()

    def on_input_submitted(self) -> None:
        self._use()

    def action_leave(self) -> None:
        self.dismiss(None)

    def _use(self) -> None:
        given = {name: self.query_one(f"#{name}", Input).value.strip() for name in FIELDS}
        try:
            choice = Choice.model_validate({**given, "strategy": self.query_one("#strategy", Select).value}, strict=False)
        except ValidationError as bad:
            first = bad.errors()[0]
            self._tell(f"✗ {first['loc'][0]}: {first['msg']}")
            return
        from steper_agent.retrieval.remote import url_in

        if choice.index != WORLD and not url_in(choice.index) and not Path(choice.index).is_dir():
            self._tell(f"✗ index: there is no folder {choice.index}")
            return
        self.dismiss(choice)

    def _tell(self, fault: str) -> None:
        self.query_one("#fault", Static).update(inert(fault, 300))
