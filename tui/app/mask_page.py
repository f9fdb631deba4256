"""A data set on the screen: its card in words, and any example with what is learned marked."""

from __future__ import annotations

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Input, Static
from textual.worker import get_current_worker

from steper_agent.errors import StepERError, told
from steper_agent.records import Example
from training.examples.masks import CLOSE, OPEN, TURN, Decode, Stretch, open_decoder, spelled, stretches, unsigned
from tui.app.masks import Examples
from tui.app.shelf import CARD, EXAMPLES, RunFolder, table
from tui.app.text import inert, one_line, shown


def masked(example: Example, decode: Decode) -> Content:
    """An example's text in its order; what is learned stands in ⟦brackets⟧, bold and underlined."""
    parts: list[Content | tuple[str, str]] = []
    was_own = example.turn == 0
    for stretch in stretches(example):
        if stretch.is_own and not was_own:
            parts.append((TURN, "dim"))
            was_own = True
        parts.append(_part(stretch, decode))
    return Content.assemble(*parts)


def _part(stretch: Stretch, decode: Decode) -> Content | tuple[str, str]:
    text = unsigned(shown(decode(stretch.ids)))
    return (f"{OPEN}{text}{CLOSE}", "bold underline") if stretch.is_learned else Content(text)


class DatasetPage(Container):
    """A data set: what was kept, what was dropped, and what the student is asked to learn, token for token."""

    DEFAULT_CSS = """
    DatasetPage { height: 1fr; }
    DatasetPage #facts, DatasetPage #which, DatasetPage #why { height: auto; padding: 0 1; }
    DatasetPage #why { color: $text-warning; display: none; }
    DatasetPage #choose { height: 1; }
    DatasetPage Button { min-width: 4; width: auto; }
    DatasetPage #number { width: 18; }
    DatasetPage #which { width: 1fr; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    DatasetPage #example { height: 1fr; padding: 0 1; border-top: solid $border-blurred; }
    DatasetPage #example:focus { border-top: solid $border; }
    DatasetPage #mask { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "step(1)", "Next step"),
        Binding("p", "step(-1)", "Previous step"),
        Binding("right_square_bracket", "trajectory(1)", "Next trajectory"),
        Binding("left_square_bracket", "trajectory(-1)", "Previous trajectory"),
        Binding("g", "go", "Go to"),
    ]

    class Ready(Message):
        """The tokenizer is open, or why not."""

        def __init__(self, decode: Decode | None, why: str) -> None:
            super().__init__()
            self.decode, self.why = decode, why

    class Read(Message):
        """A trajectory's examples, or why they cannot be read."""

        def __init__(self, number: int, examples: list[Example], why: str = "") -> None:
            super().__init__()
            self.number, self.examples, self.why = number, examples, why

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run = run
        self.file = Examples(run.path / EXAMPLES)
        self.number = 0
        """Of the trajectory, from 0."""
        self.place = 0
        """Of the example among its trajectory's."""
        self.examples: list[Example] = []
        self._decode: Decode = spelled

    def compose(self) -> ComposeResult:
        yield Static(_card(self.run), id="facts", markup=False)
        yield Static("the tokenizer is being opened …", id="why", markup=False)
        with Horizontal(id="choose"):
            yield Button("‹", id="back", compact=True, tooltip="Previous step (p)")
            yield Button("›", id="on", compact=True, tooltip="Next step (n)")
            yield Input(placeholder="trajectory", type="integer", compact=True, id="number")
            yield Static("", id="which", markup=False)
        with VerticalScroll(id="example"):
            yield Static("", id="mask", markup=False)

    def on_mount(self) -> None:
        self._scan()
        self._open()
        self.query_one("#why").display = True

    def show(self, run: RunFolder) -> None:
        """The folder as it is now."""
        self.run = run

    def enter(self) -> None:
        """Take the keyboard."""
        self.query_one("#example").focus()

    @work(thread=True, exit_on_error=False)
    def _scan(self) -> None:
        worker = get_current_worker()
        try:
            for found in self.file.scan():
                if worker.is_cancelled:
                    return
                if not self.examples and found:
                    self._read(0)
        except OSError as bad:
            self.post_message(self.Read(0, [], told(bad)))

    @work(thread=True, exit_on_error=False)
    def _open(self) -> None:
        try:
            self.post_message(self.Ready(open_decoder(self.run.path), ""))
        except (StepERError, OSError) as bad:
            self.post_message(self.Ready(None, told(bad)))

    def _read(self, number: int) -> None:
        """In any thread: one line of the file."""
        try:
            self.post_message(self.Read(number, self.file.read(number)))
        except StepERError as bad:
            self.post_message(self.Read(number, [], told(bad)))

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _turn_to(self, number: int) -> None:
        self._read(number)

    def on_dataset_page_ready(self, ready: Ready) -> None:
        self._decode = ready.decode or spelled
        self.query_one("#why", Static).update(inert(f"token ids are shown, for the tokenizer cannot be opened: {ready.why}"))
        self.query_one("#why").display = bool(ready.why)
        self._draw()

    def on_dataset_page_read(self, read: Read) -> None:
        if read.why:
            self.query_one("#which", Static).update(inert(one_line(read.why)))
            return
        self.place = 0 if read.number >= self.number else max(0, len(read.examples) - 1)
        self.number, self.examples = read.number, read.examples
        self._draw()

    def _draw(self) -> None:
        if not self.examples:
            return
        example = self.examples[self.place]
        learned, count = sum(map(bool, example.learn)), len(example.ids)
        self.query_one("#which", Static).update(Content(
            f" trajectory {self.number + 1:,} of {len(self.file.places):,} · step {example.step} ({example.kind}) · "
            f"{learned} of {count} tokens learned"))  # fmt: skip
        try:
            text = masked(example, self._decode)
        except (ValueError, TypeError, OverflowError, IndexError) as bad:
            text = Content.assemble(inert(f"these ids are not this tokenizer's ({bad}):\n"), masked(example, spelled))
        self.query_one("#mask", Static).update(text)
        self.query_one("#example").scroll_home(animate=False)

    def action_step(self, by: int) -> None:
        """The next example; behind a trajectory's last one, the next trajectory."""
        if 0 <= self.place + by < len(self.examples):
            self.place += by
            self._draw()
        else:
            self.action_trajectory(by)

    def action_trajectory(self, by: int) -> None:
        if 0 <= self.number + by < len(self.file.places):
            self._turn_to(self.number + by)

    def action_go(self) -> None:
        self.query_one("#number").focus()

    @on(Button.Pressed)
    def _press(self, pressed: Button.Pressed) -> None:
        self.action_step(1 if pressed.button.id == "on" else -1)

    @on(Input.Submitted, "#number")
    def _go(self, submitted: Input.Submitted) -> None:
        if submitted.value.lstrip("-").isdigit():
            self._turn_to(max(0, int(submitted.value) - 1))
            self.query_one("#example").focus()


def _card(run: RunFolder) -> Content:
    card = table(run.path / CARD)
    kept = card.get("trajectories")
    counts = " · ".join(f"{count} {name}" for name, count in kept.items()) if isinstance(kept, dict) else "?"
    kinds = card.get("examples")
    said = " · ".join(f"{count} {kind}" for kind, count in kinds.items()) if isinstance(kinds, dict) else "?"
    return Content.assemble(inert(f"trajectories: {counts}\nexamples: {said}"), inert(
        f"\n{card.get('learned_tokens')} of {card.get('tokens')} tokens are learned · {card.get('view')}, {card.get('target')} · "
        f"{card.get('examples_too_long')} too long", 500))  # fmt: skip
