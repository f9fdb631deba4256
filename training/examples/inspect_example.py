"""See what a student is asked to learn: python -m training.distill inspect --dataset DIR [--kind K] [--example N]

One example of a data set as text. What is learned stands in ⟦brackets⟧, underlined and green on a terminal that has colours; all
the rest is what the model is shown. What a terminal would obey is spelled out (\\x1b), so that any text can be looked at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.text import Text

from steper_agent.config import Config, command_line
from steper_agent.errors import DataError, StepERError
from steper_agent.records import KINDS, Example, Kind
from training.examples.masks import CLOSE, OPEN, TURN, Decode, open_decoder, spelled, stretches, unsigned

LEARNED = "bold underline green"


class InspectConfig(Config):
    dataset: Path = Field(description="folder made by training.dataset")
    example: int = Field(1, gt=0, description="number of the example, counted from 1; with --kind, among those of that kind")
    kind: Kind | None = Field(None, description=f"only examples of this kind: {', '.join(KINDS)}")
    target: bool = Field(False, description="show only what is learned; the rest is counted")
    tokens: bool = Field(False, description="a line for every token: its place, whether it is learned (+), its id and its text")
    base: Path | None = Field(None, description="folder of the base, whose tokenizer spells the ids; found by itself where it lies as it did")


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(InspectConfig, "distill inspect", __doc__ or "", argv)
    example = find(config.dataset, config.example, config.kind)
    console = Console(highlight=False, soft_wrap=True)
    decode: Decode = spelled
    try:
        decode = open_decoder(config.dataset, config.base)
    except StepERError as refused:
        if config.base is not None:
            raise
        console.print(Text(f"token ids are shown, for the tokenizer cannot be opened: {refused.what}; give it with --base", style="dim"))
    console.print(header(example))
    console.print(by_token(example, decode, only_learned=config.target) if config.tokens else masked(example, decode, only_learned=config.target))
    return 0


def find(folder: Path, number: int, kind: Kind | None = None) -> Example:
    """The `number`-th example of a data set, or of one kind in it, counted from 1.

    Raises:
        DataError: there are not so many, or the file is no data set's.
    """
    counts: Counter[Kind] = Counter()
    for example in read_examples(folder):
        counts[example.kind] += 1
        if number == (counts.total() if kind is None else counts[kind]):
            return example
    found = counts.total() if kind is None else counts[kind]
    held = ", ".join(f"{counts[each]} {each}" for each in KINDS)
    raise DataError(f"there is no example {number:,}" + (f" of kind {kind}" if kind else ""), where=folder,
                    fix=f"choose 1 to {found:,}" if found else f"choose a kind that the data set has: {held}")


def read_examples(folder: Path) -> Iterator[Example]:
    """All of a data set in their order, line by line, whatever its size."""
    from training.examples.dataset_folder import EXAMPLES, read_card

    read_card(folder)
    path = folder / EXAMPLES
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield from _examples(line, f"{path}:{number}")
    except OSError as bad:
        raise DataError(f"cannot be read: {bad.strerror}", where=path, fix="make the data set again") from bad


def _examples(line: bytes, where: str) -> list[Example]:
    try:
        return [Example.model_validate(each) for each in json.loads(line)["examples"]]
    except (ValueError, KeyError, TypeError, RecursionError) as bad:
        raise DataError("not a trajectory's examples", where=where, fix="make the data set again") from bad


def header(example: Example) -> Text:
    """What the example is, in one line."""
    learned, count = sum(map(bool, example.learn)), len(example.ids)
    likely = " · a teacher told its log-probabilities of that turn" if example.likely else ""
    return Text(f"{example.kind} · step {example.step} · trajectory {example.trajectory + 1:,} · {count:,} tokens, {learned:,} of them learned · "
                f"the step's own turn begins at token {example.turn:,}{likely}\n", style="bold")  # fmt: skip


def masked(example: Example, decode: Decode, *, only_learned: bool = False) -> Text:
    """An example's text in its order; what is learned stands in ⟦brackets⟧ too, and not in colour alone."""
    text, was_own = Text(), example.turn == 0
    for stretch in stretches(example):
        if stretch.is_own and not was_own:
            text.append(TURN, style="dim")
            was_own = True
        if stretch.is_learned:
            text.append(f"{OPEN}{inert(decode(stretch.ids))}{CLOSE}", style=LEARNED)
        elif only_learned:
            text.append(f" … {len(stretch.ids):,} tokens not learned … ", style="dim")
        else:
            text.append(inert(decode(stretch.ids)))
    return text


def by_token(example: Example, decode: Decode, *, only_learned: bool = False) -> Text:
    """A line a token."""
    text = Text()
    for place, (id, learn) in enumerate(zip(example.ids, example.learn, strict=True)):
        if place == example.turn:
            text.append(TURN.lstrip("\n"), style="dim")
        if learn or not only_learned:
            said = inert(decode((id,))).replace("\n", "\\n")
            text.append(f"{place:>7,} {'+' if learn else ' '} {id:>7} ")
            text.append(f"{OPEN}{said}{CLOSE}\n" if learn else f" {said}\n", style=LEARNED if learn else "")
    return text


def inert(text: str) -> str:
    """Text as it is, but for what a terminal obeys, reorders or hides, which is spelled out; nothing in it looks like our signs."""
    return "".join(sign if sign == "\n" or _is_seen(sign) else sign.encode("unicode_escape").decode("ascii") for sign in unsigned(text))


def _is_seen(sign: str) -> bool:
    return sign.isprintable() and not _is_hidden(sign)


def _is_hidden(sign: str) -> bool:
    """Printable by its class, and yet nothing is seen: fillers, joiners and variation selectors."""
    return sign in "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0" or "\ufe00" <= sign <= "\ufe0f" or "\U000e0100" <= sign <= "\U000e01ef"
