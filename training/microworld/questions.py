"""Multi-hop questions over a world, with gold answers and supports.

    chain      What is the mother of the director of X?            1 to 4 hops
    earlier    Which has the earlier birth year, X or Y?           2 hops
    same       Do X and Y have the same birthplace?                2 hops
    same       Do the director of X and the author of Y have the same birthplace?   4 hops

A world with dials has longer ones, some in other words, and some without an answer but `unknown`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Literal

from steper_agent.errors import ConfigError
from steper_agent.records import Question
from training.microworld.asking import Meaning, Path, ask, understand
from training.microworld.dials import SAME, TODAY, deepen
from training.microworld.language import BY_LABEL, OF_TYPE, UNKNOWN, Fact
from training.microworld.unanswerable import spoil
from training.microworld.world import World

__all__ = ["CHAINS", "MIX", "Meaning", "Path", "ask", "follow", "make_questions", "understand"]


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
    """`count` different questions in the shares of `mix` (default: MIX). Every hop is stated by the encyclopaedia, but where the
    world's dials take it away.

    `meta` holds `hops` and `type`; in a world with dials also `dials`: those of paraphrase, missing, outdated, contradictory and
    unanswerable that touch this very question.

    Raises:
        ConfigError: the world is too small to ask that many different questions.
    """
    rng = random.Random(f"questions:{world.split}:{world.seed}:{seed}")
    draws = _Draws(world, rng)
    asked: dict[str, Meaning] = {}
    mix = deepen(mix or MIX, world.dials.hops)
    shapes, weights = list(mix), list(mix.values())
    # The longer a question, the more draws lead nowhere: without more tries the shorter ones would take its share.
    tries = 50 if world.dials.hops else 1
    for _ in range(count * 50 + 1000):
        if len(asked) == count:
            break
        shape = rng.choices(shapes, weights)[0]
        meaning = next((drawn for _ in range(tries) if (drawn := draws.draw(shape))), None)
        if meaning is not None and (text := ask(meaning)) not in asked:
            asked[text] = meaning
    else:
        raise ConfigError(f"a world of {len(world.passages)} passages has no {count} different questions",
                          where="questions", fix="make the world larger or ask fewer questions")
    if world.dials == TODAY:
        return [_question(world, meaning, number) for number, meaning in enumerate(asked.values())]
    return _harden(world, asked.values(), seed)


def _harden(world: World, meanings: Iterable[Meaning], seed: int) -> list[Question]:
    """The same questions under the world's dials."""
    made, key = [], f"{world.split}:{world.seed}:{seed}"
    rng = random.Random(f"words:{key}")
    for number, (meaning, spoilt) in enumerate(spoil(world, meanings, random.Random(f"spoil:{key}"))):
        reworded, way = rng.random() < world.dials.paraphrase, rng.randint(1, 2)
        question = _question(world, meaning, number, way if reworded else 0)
        passed = [place for path in meaning.paths for place in _places(world, path)]
        touched = {
            "paraphrase": reworded or any(place in world.reworded for place in passed), "missing": spoilt == "missing",
            "outdated": any(name in world.outdated for name, _ in passed),
            "contradictory": any(name in world.disputed for name, _ in passed), "unanswerable": spoilt == "unanswerable",
        }  # fmt: skip
        meta = {**question.meta, "dials": [dial for dial, touches in touched.items() if touches]}
        made.append(question.model_copy(update={"meta": meta}))
    return made


def _question(world: World, meaning: Meaning, number: int, way: int = 0) -> Question:
    read, ends = dict[str, None](), list[str]()
    for path in meaning.paths:
        places = _places(world, path)
        read |= dict.fromkeys(name for name, _ in places)
        last, label = places[-1] if len(places) == len(path.labels) else ("", "")
        if last in world.disputed or label not in world.facts.get(last, {}):
            break
        ends.append(world.facts[last][label])
    answer = meaning.conclude(tuple(ends)) if len(ends) == len(meaning.paths) else UNKNOWN
    supports = [id for name in read for id in (world.ids.get(name), world.disputed.get(name)) if id]
    return Question(id=f"{world.split}{world.seed}-q{number:05d}", text=ask(meaning, way), answers=(answer,), supporting_ids=tuple(supports),
                    meta={"hops": sum(len(path.labels) for path in meaning.paths), "type": meaning.form})


def _places(world: World, path: Path) -> list[tuple[str, str]]:
    """Entity and relation of every hop, up to the first that no passage states or that two state otherwise."""
    at, places = path.start, list[tuple[str, str]]()
    for label in path.labels:
        places.append((at, label))
        if at in world.disputed or label not in world.facts.get(at, {}):
            break
        at = world.facts[at][label]
    return places


class _Draws:
    """Draws meanings over one world; None where a draw leads nowhere."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.names = list(world.ids)
        self.holders: dict[tuple[str, str], list[str]] = {}
        """(type, label) → entities that state it."""
        self.bridges: dict[str, list[tuple[str, str]]] = {}
        """Person → (entity, label) that lead to it in one hop, family aside."""
        self.ways_to: dict[str, list[tuple[str, str]]] = {}
        """Entity → (entity, label) that lead to it in one hop, family and all."""
        for name, of in world.facts.items():
            for label, value in of.items():
                self.holders.setdefault((world.types[name], label), []).append(name)
                self.ways_to.setdefault(value, []).append((name, label))
                if BY_LABEL[label].object == "person" and label not in ("mother", "spouse"):
                    self.bridges.setdefault(value, []).append((name, label))

    def draw(self, shape: str) -> Meaning | None:
        if shape.isdigit():
            path = self._walk(self.rng.choice(self.names), int(shape))
            return Meaning("chain", (path,)) if path else None
        if shape in SAME[1:]:
            return self._bridged(from_afar=shape == SAME[2])
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

    def _bridged(self, *, from_afar: bool) -> Meaning | None:
        """Two different entities, one hop each to a person (two with `from_afar`), then the same relation of both persons."""
        label = self.rng.choice([r.label for r in OF_TYPE["person"] if r.object != "year"])
        leading = [self.ways_to, self.ways_to] if from_afar else [self.bridges]
        people = [name for name in self.holders.get(("person", label), []) if name in leading[0]]
        pair = self._pair(people, label, even=True)
        if pair is None:
            return None
        one, two = (Path(person, (label,)) for person in pair)
        for ways in leading:
            if one.start not in ways or two.start not in ways:
                return None
            one, two = self._back(one, ways), self._back(two, ways)
        return Meaning("same", (one, two)) if one.start != two.start and not {one.start, two.start} & set(pair) else None

    def _back(self, path: Path, ways: Mapping[str, list[tuple[str, str]]]) -> Path:
        """The same path from one hop farther away."""
        start, label = self.rng.choice(ways[path.start])
        return Path(start, (label, *path.labels))

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
