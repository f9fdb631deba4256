"""A seeded encyclopaedia of any size: entities with near-miss names, facts that link them, one passage an entity."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from zlib import crc32

from steper_agent.errors import ConfigError
from steper_agent.records import Passage
from training.microworld.dials import TODAY, Dials
from training.microworld.language import LITERALS, OF_TYPE, TYPES, Fact, head, name_words

Split = Literal["pretrain", "train", "test"]
SPLITS: tuple[Split, ...] = ("pretrain", "train", "test")

SHARES = {
    "person": 0.34, "film": 0.12, "book": 0.12, "company": 0.1, "city": 0.1,
    "band": 0.07, "university": 0.05, "museum": 0.05, "river": 0.03, "country": 0.02,
}  # fmt: skip
"""Share of each entity type among the passages."""

TWO_WORD_LIMIT = 20_000
"""Above this many entities names get a third word: 512² / 3 two-word names a split run out of near misses."""


@dataclass(frozen=True, slots=True)
class World:
    split: Split
    seed: int
    types: dict[str, str]
    """Entity name → type."""
    facts: dict[str, dict[str, str]]
    """Entity name → relation label → object."""
    passages: tuple[Passage, ...]
    ids: dict[str, str]
    """Entity name → passage id."""
    dials: Dials = TODAY
    outdated: frozenset[str] = frozenset()
    """Entities with a second passage that is marked as of an earlier year."""
    disputed: Mapping[str, str] = field(default_factory=dict)
    """Entity name → id of a second passage that states all its relations otherwise, without a mark."""
    reworded: frozenset[tuple[str, str]] = frozenset()
    """(entity name, label) of facts in words that pre-training never saw."""


def belongs_to(name: str) -> Split:
    """The split that owns a name; every full name has exactly one owner, so no split ever meets another's names."""
    return SPLITS[crc32(name.encode()) % len(SPLITS)]


def make_names(count: int, split: Split, rng: random.Random) -> list[str]:
    """Fresh names, about a third of them near misses that share a word with the one before."""
    words = name_words()
    length = 2 if count <= TWO_WORD_LIMIT else 3
    taken: set[str] = set()
    names: list[str] = []
    while len(names) < count:
        parts = [rng.choice(words) for _ in range(length)]
        if names and rng.random() < 0.35:
            keep = rng.randrange(length)
            parts[keep] = names[-1].split()[keep]
        name = " ".join(parts)
        if len(set(parts)) == length and name not in taken and belongs_to(name) == split:
            taken.add(name)
            names.append(name)
    return names


def make_world(passages: int, *, split: Split, seed: int) -> World:
    """Make an encyclopaedia of `passages` passages. The same arguments make the same world on every machine.

    Raises:
        ConfigError: fewer than 100 passages cannot hold every entity type.
    """
    if passages < 100:
        raise ConfigError(f"a world of {passages} passages is too small", where="passages", fix="ask for at least 100")
    rng = random.Random(f"{split}:{seed}:{passages}")
    names = make_names(passages, split, rng)
    types = dict(zip(names, _spread(passages), strict=True))
    members: dict[str, list[str]] = {kind: [] for kind in TYPES}
    for name, kind in types.items():
        members[kind].append(name)
    facts = {name: _facts_of(name, kind, members, rng) for name, kind in types.items()}
    ids = {name: f"{split}{seed}-{number:06d}" for number, name in enumerate(names)}
    printed = tuple(print_passage(ids[name], name, kind, facts[name], rng) for name, kind in types.items())
    return World(split, seed, types, facts, printed, ids)


def _spread(count: int) -> list[str]:
    """Entity types in their shares, interleaved so that near-miss neighbours usually differ in type as well."""
    ranked = [((place + 0.5) / max(1, round(count * share)), kind)
              for kind, share in SHARES.items() for place in range(max(1, round(count * share)))]
    kinds = [kind for _, kind in sorted(ranked)]
    return (kinds + ["person"] * count)[:count]


def _facts_of(name: str, kind: str, members: dict[str, list[str]], rng: random.Random) -> dict[str, str]:
    facts: dict[str, str] = {}
    for relation in OF_TYPE[kind]:
        pool: list[str] | tuple[str, ...] = LITERALS.get(relation.object) or members[relation.object]
        chosen = rng.choice(pool)
        while chosen == name:
            chosen = rng.choice(pool)
        facts[relation.label] = chosen
    order = list(facts)
    rng.shuffle(order)
    return {label: facts[label] for label in order[: rng.randint(3, 5)]}


def print_passage(id: str, name: str, kind: str, facts: dict[str, str], rng: random.Random) -> Passage:
    said = [head(name, kind)]
    for relation in OF_TYPE[kind]:
        if relation.label in facts:
            said.append(rng.choice(relation.phrasings).format(s=name, o=facts[relation.label]))
    first, rest = said[:1], said[1:]
    rng.shuffle(rest)
    return Passage(id=id, title=name, text=" ".join(first + rest))


def stated(world: World) -> list[Fact]:
    """All facts of a world, in passage order."""
    return [Fact(name, label, value) for name, of in world.facts.items() for label, value in of.items()]
