"""What the base model practises: looking facts up in passages, and copying. No chain of steps is ever shown.

A sheet is one conversation: passages, then several single-fact questions with full-sentence answers, copying and
comparing, in the same prompt the graph will use, so that distillation has to teach reasoning in steps and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from graphs.strategies.layout import show
from steper_agent.records import Passage
from training.microworld.language import BY_LABEL, FIRST_YEAR, LAST_YEAR, OF_TYPE, Fact, canonical, missing
from training.microworld.world import World, make_world

MOST_PASSAGES = 12
MISSING = 0.08
"""Share of look-ups whose fact is in no passage."""
COPYING = 0.08
"""Share of turns that only copy names."""
SHORTENING = 0.35
"""Share of look-ups that are followed by a turn that repeats one thing found: copying from what was said, not read."""


def line(text: str) -> str:
    """What the model writes in one turn: a line and its end, as in the graph."""
    return f"{text}\n"


Task = Literal["look-up", "missing", "compare", "copy", "shorten"]


@dataclass(frozen=True, slots=True)
class Turn:
    task: Task
    asked: str
    answered: str
    found: tuple[str, ...] = ()
    """Objects of the facts a look-up states."""


@dataclass(frozen=True, slots=True)
class Sheet:
    turns: tuple[Turn, ...]
    """The first turn's question carries the passages."""


def sheets(*, seed: int, passages: int, world_size: int = 1500, per_world: int = 400) -> Iterator[Sheet]:
    """An endless stream of sheets over always-fresh worlds. `passages` bounds how many a sheet shows."""
    number = 0
    while True:
        rng = random.Random(f"sheets:{seed}:{number}")
        shelf = Shelf(make_world(world_size, split="pretrain", seed=seed * 1_000_003 + number))
        for _ in range(per_world):
            yield make_sheet(shelf, rng.randint(1, passages), rng)
        number += 1


class Shelf:
    """A world arranged for drawing contexts that look like what a retriever returns."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.by_word: dict[str, list[int]] = {}
        self.place = {passage.title: number for number, passage in enumerate(world.passages)}
        for number, passage in enumerate(world.passages):
            for word in passage.title.split():
                self.by_word.setdefault(word, []).append(number)

    def context(self, count: int, rng: random.Random) -> list[Passage]:
        """`count` passages around a random one: entities it links to, near-miss names, and strangers."""
        chosen = [rng.randrange(len(self.world.passages))]
        while len(chosen) < count:
            from_ = self.world.passages[rng.choice(chosen)].title
            number = self._neighbour(from_, rng)
            if number not in chosen:
                chosen.append(number)
        rng.shuffle(chosen)
        return [self.world.passages[number] for number in chosen]

    def _neighbour(self, name: str, rng: random.Random) -> int:
        draw = rng.random()
        linked = [self.place[value] for value in self.world.facts[name].values() if value in self.place]
        if draw < 0.45 and linked:
            return rng.choice(linked)
        if draw < 0.8:
            return rng.choice(self.by_word[rng.choice(name.split())])
        return rng.randrange(len(self.world.passages))


def make_sheet(shelf: Shelf, count: int, rng: random.Random) -> Sheet:
    """One conversation: the passages with a first question, then more questions about the same passages."""
    context = shelf.context(count, rng)
    facts = [Fact(p.title, label, value) for p in context for label, value in shelf.world.facts[p.title].items()]
    rng.shuffle(facts)
    turns: list[Turn] = []
    while facts and len(turns) < 9:
        turns.append(_copy(shelf, rng) if rng.random() < COPYING else _look_up(shelf, context, facts, rng))
    rng.shuffle(turns)
    turns = [turn for found in turns for turn in _with_short(found, rng)]
    first = "".join(show(turns[0].asked, context))
    if rng.random() < 0.15:
        first = f"Question: {turns[0].asked}\n\n{first}"
    prompts = [first, *("".join(show(turn.asked, [])) for turn in turns[1:])]
    return Sheet(tuple(replace(turn, asked=asked) for turn, asked in zip(turns, prompts, strict=True)))


def _look_up(shelf: Shelf, context: list[Passage], facts: list[Fact], rng: random.Random) -> Turn:
    draw = rng.random()
    if draw < MISSING:
        return _missing(shelf, context, rng)
    if draw < MISSING + 0.06:
        return _earlier(rng)
    if draw < MISSING + 0.12:
        return _same(shelf, rng)
    several = min(len(facts), rng.choice((1, 1, 1, 2, 3)))
    asked = [facts.pop() for _ in range(several)]
    phrases = [f"the {fact.label} of {fact.subject}" for fact in asked]
    question = f"What is {phrases[0]}?" if several == 1 else f"State {'; '.join(phrases)}."
    if several == 1 and rng.random() < 0.3:
        said = line(f"{canonical(asked[0])} In short, it is: {asked[0].object}.")
        return Turn("look-up", f"What is {phrases[0]}, in short?", said, (asked[0].object,))
    said = "".join(line(canonical(fact)) for fact in asked)
    return Turn("look-up", question, said, tuple(fact.object for fact in asked))


def _missing(shelf: Shelf, context: list[Passage], rng: random.Random) -> Turn:
    """Ask for what the passages do not say: an unstated relation, or an entity that is only mentioned."""
    passage = rng.choice(context)
    stated = shelf.world.facts[passage.title]
    titles = {p.title for p in context}
    mentioned = [v for v in stated.values() if v in shelf.place and v not in titles]
    subject = rng.choice(mentioned) if mentioned and rng.random() < 0.6 else passage.title
    labels = [r.label for r in OF_TYPE[shelf.world.types[subject]] if subject in mentioned or r.label not in stated]
    label = rng.choice(labels) if labels else rng.choice([name for name in BY_LABEL if name not in stated])
    return Turn("missing", f"What is the {label} of {subject}?", line(missing(subject, label)))


def _earlier(rng: random.Random) -> Turn:
    one, two = rng.sample(range(FIRST_YEAR, LAST_YEAR + 1), 2)
    return Turn("compare", f"Which is earlier, {one} or {two}?", line(f"The earlier of {one} and {two} is {min(one, two)}."))


def _same(shelf: Shelf, rng: random.Random) -> Turn:
    """Compare two names, often the same one, often near misses."""
    one = rng.choice(shelf.world.passages).title
    near = shelf.world.passages[rng.choice(shelf.by_word[rng.choice(one.split())])].title
    two = rng.choice((one, one, near, rng.choice(shelf.world.passages).title))
    return Turn("compare", f"Are {one} and {two} the same?", line(f"They are {'' if one == two else 'not '}the same."))


def _with_short(turn: Turn, rng: random.Random) -> list[Turn]:
    """A look-up, and sometimes a turn that repeats the first or the last thing it found."""
    if turn.task != "look-up" or rng.random() >= SHORTENING:
        return [turn]
    which, said = ("first", turn.found[0]) if rng.random() < 0.3 else ("last", turn.found[-1])
    colon = rng.choice(("", ":"))
    return [turn, Turn("shorten", f"Say only the {which}{colon}.", line(f"It is{colon} {said}."))]


def _copy(shelf: Shelf, rng: random.Random) -> Turn:
    """Say a list of names again."""
    names = ", ".join(rng.choice(shelf.world.passages).title for _ in range(rng.randint(2, 8)))
    return Turn("copy", f"Copy: {names}.", line(f"The names are {names}."))
