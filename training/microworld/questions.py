"""Multi-hop questions over a world, with gold answers and supports, and the grammar that reads them back.

    chain      What is the mother of the director of X?            1 to 4 hops
    earlier    Which has the earlier birth year, X or Y?           2 hops
    same       Do X and Y have the same birthplace?                2 hops
    same       Do the director of X and the author of Y have the same birthplace?   4 hops
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steper_agent.errors import ConfigError
from steper_agent.records import Question
from training.microworld.language import BY_LABEL, NAME, OF_TYPE, Fact
from training.microworld.world import World


@dataclass(frozen=True, slots=True)
class Path:
    """Start at an entity and follow relations, the innermost first."""

    start: str
    labels: tuple[str, ...]

    def phrase(self) -> str:
        """As it stands in a question: `the mother of the director of X`."""
        return "".join(f"the {label} of " for label in reversed(self.labels)) + self.start


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a question asks: the paths to follow, and what to do with their ends."""

    form: Literal["chain", "earlier", "same"]
    paths: tuple[Path, ...]

    def conclude(self, ends: tuple[str, ...]) -> str:
        """The answer, once every path has been followed to its end."""
        if self.form == "chain":
            return ends[0]
        if self.form == "same":
            return "yes" if ends[0] == ends[1] else "no"
        return self.paths[0 if int(ends[0]) <= int(ends[1]) else 1].start


def ask(meaning: Meaning) -> str:
    first = meaning.paths[0]
    if meaning.form == "chain":
        return f"What is {first.phrase()}?"
    second, label = meaning.paths[1], first.labels[-1]
    if meaning.form == "earlier":
        return f"Which has the earlier {label}, {first.start} or {second.start}?"
    one, two = (Path(path.start, path.labels[:-1]).phrase() for path in meaning.paths)
    return f"Do {one} and {two} have the same {label}?"


LABELS = "|".join(sorted(BY_LABEL, key=len, reverse=True))
PHRASE = rf"(?:the (?:{LABELS}) of )*{NAME}"
FORMS = {
    "chain": re.compile(rf"What is (?P<one>{PHRASE})\?"),
    "earlier": re.compile(rf"Which has the earlier (?P<label>{LABELS}), (?P<one>{NAME}) or (?P<two>{NAME})\?"),
    "same": re.compile(rf"Do (?P<one>{PHRASE}) and (?P<two>{PHRASE}) have the same (?P<label>{LABELS})\?"),
}


def understand(question: str) -> Meaning | None:
    """The inverse of `ask`; None for a text that is no question of this language."""
    if found := FORMS["chain"].fullmatch(question):
        return Meaning("chain", (_path(found["one"]),))
    for form in ("earlier", "same"):
        if found := FORMS[form].fullmatch(question):
            ends = (found["label"],)
            one, two = _path(found["one"]), _path(found["two"])
            paths = (Path(one.start, one.labels + ends), Path(two.start, two.labels + ends))
            return Meaning("earlier" if form == "earlier" else "same", paths)
    return None


def _path(phrase: str) -> Path:
    labels = re.findall(rf"the ({LABELS}) of ", phrase)
    return Path(phrase.rsplit(" of ", 1)[-1], tuple(reversed(labels)))


def follow(world: World, path: Path) -> list[Fact] | None:
    """The facts along a path; None where the encyclopaedia does not state one."""
    at, facts = path.start, []
    for label in path.labels:
        value = world.facts.get(at, {}).get(label)
        if value is None:
            return None
        facts.append(Fact(at, label, value))
        at = value
    return facts


MIX = {"1": 0.1, "2": 0.3, "3": 0.2, "4": 0.12, "earlier": 0.1, "same": 0.1, "same4": 0.08}
"""Share of each shape among the questions; the digit is the number of hops of a chain."""
CHAINS = {"1": 0.2, "2": 0.4, "3": 0.3, "4": 0.1}
"""The same without comparisons."""


def make_questions(world: World, count: int, *, seed: int, mix: Mapping[str, float] | None = None) -> list[Question]:
    """`count` different questions whose every hop the encyclopaedia states, in the shares of `mix` (default: MIX).

    Raises:
        ConfigError: the world is too small to ask that many different questions.
    """
    rng = random.Random(f"questions:{world.split}:{world.seed}:{seed}")
    draws = _Draws(world, rng)
    asked: dict[str, Question] = {}
    mix = mix or MIX
    shapes, weights = list(mix), list(mix.values())
    for _ in range(count * 50 + 1000):
        if len(asked) == count:
            break
        meaning = draws.draw(rng.choices(shapes, weights)[0])
        if meaning is not None and (text := ask(meaning)) not in asked:
            asked[text] = _question(world, meaning, text, f"{world.split}{world.seed}-q{len(asked):05d}")
    else:
        raise ConfigError(f"a world of {len(world.passages)} passages has no {count} different questions",
                          where="questions", fix="make the world larger or ask fewer questions")
    return list(asked.values())


def _question(world: World, meaning: Meaning, text: str, id: str) -> Question:
    chains = [follow(world, path) or [] for path in meaning.paths]
    answer = meaning.conclude(tuple(chain[-1].object for chain in chains))
    subjects = dict.fromkeys(fact.subject for chain in chains for fact in chain)
    hops = sum(len(chain) for chain in chains)
    return Question(id=id, text=text, answers=(answer,), supporting_ids=tuple(world.ids[s] for s in subjects),
                    meta={"hops": hops, "type": meaning.form})


class _Draws:
    """Draws meanings over one world; None where a draw leads nowhere."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.names = list(world.ids)
        self.holders: dict[tuple[str, str], list[str]] = {}
        """(type, label) → entities that state it."""
        self.bridges: dict[str, list[tuple[str, str]]] = {}
        """Person → (entity, label) that lead to it in one hop, family aside."""
        for name, of in world.facts.items():
            for label, value in of.items():
                self.holders.setdefault((world.types[name], label), []).append(name)
                if BY_LABEL[label].object == "person" and label not in ("mother", "spouse"):
                    self.bridges.setdefault(value, []).append((name, label))

    def draw(self, shape: str) -> Meaning | None:
        if shape.isdigit():
            path = self._walk(self.rng.choice(self.names), int(shape))
            return Meaning("chain", (path,)) if path else None
        if shape == "same4":
            return self._bridged()
        return self._compared("earlier" if shape == "earlier" else "same")

    def _compared(self, form: Literal["earlier", "same"]) -> Meaning | None:
        """Two entities of one type and a relation of both: a year to order, or another object to compare."""
        kind = self.rng.choice(("person", "film", "book", "company") if form == "earlier" else list(OF_TYPE))
        labels = [r.label for r in OF_TYPE[kind] if (r.object == "year") == (form == "earlier")]
        if not labels:
            return None
        label = self.rng.choice(labels)
        pair = self._pair(self.holders.get((kind, label), []), label, even=form == "same")
        if pair is None or (form == "earlier" and len({self.world.facts[name][label] for name in pair}) == 1):
            return None
        return Meaning(form, (Path(pair[0], (label,)), Path(pair[1], (label,))))

    def _bridged(self) -> Meaning | None:
        """Two different entities, one hop each to a person, then the same relation of both persons."""
        label = self.rng.choice([r.label for r in OF_TYPE["person"] if r.object != "year"])
        people = [name for name in self.holders.get(("person", label), []) if name in self.bridges]
        pair = self._pair(people, label, even=True)
        if pair is None:
            return None
        (x, to_x), (y, to_y) = (self.rng.choice(self.bridges[person]) for person in pair)
        return Meaning("same", (Path(x, (to_x, label)), Path(y, (to_y, label)))) if x != y else None

    def _pair(self, holders: list[str], label: str, *, even: bool) -> tuple[str, str] | None:
        """Two entities that have the relation; with `even`, about half of the pairs share its object."""
        if len(holders) < 2:
            return None
        if even and self.rng.random() < 0.5:
            alike: dict[str, list[str]] = {}
            for name in holders:
                alike.setdefault(self.world.facts[name][label], []).append(name)
            holders = self.rng.choice([names for names in alike.values() if len(names) > 1] or [[]])
            if not holders:
                return None
        one, two = self.rng.sample(holders, 2)
        return one, two

    def _walk(self, start: str, hops: int) -> Path | None:
        at, seen, labels = start, {start}, list[str]()
        for hop in range(hops):
            onward = [label for label, value in self.world.facts.get(at, {}).items()
                      if value not in seen and (hop == hops - 1 or value in self.world.ids)]
            if not onward:
                return None
            labels.append(self.rng.choice(onward))
            at = self.world.facts[at][labels[-1]]
            seen.add(at)
        return Path(start, tuple(labels))
