"""From a world to a harder one: namesakes, passages of an earlier year, passages that disagree, other words, and noise.

What the encyclopaedia knows stays as it was, and so do the questions: there is only more to find and to read. A dial that is turned
up further keeps what it had added before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from steper_agent.records import Passage
from training.microworld.dials import TODAY, Dials
from training.microworld.language import (
    BY_LABEL,
    FIRST_YEAR,
    LAST_YEAR,
    LITERALS,
    OF_TYPE,
    TYPES,
    Fact,
    dated,
    facts_in,
    name_words,
    sentences,
)
from training.microworld.paraphrases import FACTS, NOISE
from training.microworld.world import Split, World, belongs_to, make_world, print_passage

Chance = Callable[[str], random.Random]
"""A stream of chance for each purpose, so that no dial changes what another one draws."""
OLD, OTHER = "old", "other"
"""How the ids of an entity's second passages end: of an earlier year, and of another opinion."""


class Entry(NamedTuple):
    """A passage and the type of what it is about."""

    passage: Passage
    kind: str


def make_hard_world(passages: int, *, split: Split, seed: int, dials: Dials = TODAY) -> World:
    """`passages` passages of as many entities, as `make_world` makes them, and those that the dials add.

    Raises:
        ConfigError: fewer than 100 passages cannot hold every entity type.
    """
    return harden(make_world(passages, split=split, seed=seed), dials)


def harden(world: World, dials: Dials) -> World:
    """The same entities, facts and ids; their own passages come first, in the same order. `world` is as `make_world` made it."""
    if dials == TODAY:
        return world

    def chance(purpose: str) -> random.Random:
        return random.Random(f"{world.split}:{world.seed}:{len(world.types)}:{purpose}")

    order = chance("editions").sample(list(world.types), len(world.types))
    # From the two ends: no entity is both, and more of one does not change which are the other.
    disputed = order[: round(dials.contradictory * len(order))]
    outdated = order[len(order) - round(dials.outdated * len(order)) :]
    added = _Added(world, chance)
    entries = [Entry(passage, world.types[passage.title]) for passage in world.passages]
    entries += added.namesakes(dials.distractors)
    entries += [_dated(added.edition(name, OLD), chance) for name in outdated]
    entries += [added.edition(name, OTHER) for name in disputed]
    own, reworded, printed = set(world.ids.values()), set[tuple[str, str]](), list[Passage]()
    for entry in entries:
        passage, facts = _reword(entry, dials.paraphrase, chance)
        reworded |= {fact[:2] for fact in facts if passage.id in own}
        printed.append(_blur(entry._replace(passage=passage), dials.noise, added.names, chance))
    return replace(
        world, passages=tuple(printed), dials=dials, outdated=frozenset(outdated),
        disputed={name: f"{world.ids[name]}-{OTHER}" for name in disputed}, reworded=frozenset(reworded),
    )  # fmt: skip


def near_name(name: str, split: Split, taken: set[str], rng: random.Random, *, longer: bool = False) -> str:
    """A name that nobody has, and takes it: the words of `name` but for one, or with `longer` all of them and one more."""
    while True:
        parts, word = name.split(), rng.choice(name_words())
        at = rng.randrange(len(parts) + longer)
        parts[at : at + (not longer)] = [word]
        near = " ".join(parts)
        if len(set(parts)) == len(parts) and near not in taken and belongs_to(near) == split:
            taken.add(near)
            return near


class _Added:
    """Passages beside those of a world."""

    def __init__(self, world: World, chance: Chance) -> None:
        self.world, self.chance, self.names = world, chance, list(world.types)
        self._pools: dict[str, Sequence[str]] = {**LITERALS}
        for kind in TYPES:
            self._pools[kind] = [name for name, other in world.types.items() if other == kind]

    def namesakes(self, count: int) -> Iterator[Entry]:
        """Of every entity `count`, of its type and with its relations. Two of three bear all words of its name, the third all but one."""
        taken = set(self.names)
        for number in range(count):
            for name in self.names:
                rng = self.chance(f"namesake:{number}:{name}")
                near = near_name(name, self.world.split, taken, rng, longer=number % 3 < 2)
                yield self._passage(name, near, f"namesake{number}", rng)

    def edition(self, name: str, mark: str) -> Entry:
        """A second passage under the same name that states all its relations otherwise."""
        return self._passage(name, name, mark, self.chance(f"{mark}:{name}"))

    def _passage(self, name: str, title: str, mark: str, rng: random.Random) -> Entry:
        kind, facts = self.world.types[name], dict[str, str]()
        for label, value in self.world.facts[name].items():
            pool = self._pools[BY_LABEL[label].object]
            facts[label] = value
            while facts[label] in (value, name):
                facts[label] = rng.choice(pool)
        return Entry(print_passage(f"{self.world.ids[name]}-{mark}", title, kind, facts, rng), kind)


def _dated(entry: Entry, chance: Chance) -> Entry:
    year = chance(f"year:{entry.passage.id}").randint(FIRST_YEAR, LAST_YEAR)
    first, *rest = sentences(entry.passage.text)
    text = " ".join([first, *(dated(sentence, year) for sentence in rest)])
    return entry._replace(passage=entry.passage.model_copy(update={"text": text}))


def _reword(entry: Entry, share: float, chance: Chance) -> tuple[Passage, list[Fact]]:
    """The passage with a share of its facts in words held out from pre-training, half of them of `This TYPE`, and those facts."""
    if not share:
        return entry.passage, []
    rng, said, changed = chance(f"words:{entry.passage.id}"), list[str](), list[Fact]()
    for sentence in sentences(entry.passage.text):
        draw, way, is_named = rng.random(), rng.randrange(2), rng.random() < 0.5
        facts = facts_in(sentence) if draw < share else []
        for fact in facts:
            sentence = FACTS[fact.label][way].format(s=fact.subject if is_named else f"This {entry.kind}", o=fact.object)
        said.append(sentence)
        changed += facts
    return entry.passage.model_copy(update={"text": " ".join(said)}), changed


def _blur(entry: Entry, count: int, names: Sequence[str], chance: Chance) -> Passage:
    """The passage with `count` sentences anywhere behind its first that stray to another entity, the same in all of them."""
    if not count:
        return entry.passage
    rng, said = chance(f"noise:{entry.passage.id}"), sentences(entry.passage.text)
    other = rng.choice([name for name in rng.sample(names, 2) if name != entry.passage.title])
    for _ in range(count):
        form, relation = rng.choice(NOISE), rng.choice(OF_TYPE[entry.kind])
        said.insert(rng.randint(1, len(said)), form.format(s=entry.passage.title, o=other, label=relation.label))
    return entry.passage.model_copy(update={"text": " ".join(said)})
