"""Multi-hop questions over a world, with gold answers and supports, and the grammar that reads them back.

    chain      What is the mother of the director of X?            1 to 4 hops
    earlier    Which has the earlier birth year, X or Y?           2 hops
    same       Do X and Y have the same birthplace?                2 hops
    same       Do the director of X and the author of Y have the same birthplace?   4 hops
"""

from __future__ import annotations

import random
import re
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


def make_questions(world: World, count: int, *, seed: int) -> list[Question]:
    """`count` different questions whose every hop the encyclopaedia states.

    Raises:
        ConfigError: the world is too small to ask that many different questions.
    """
    rng = random.Random(f"questions:{world.split}:{world.seed}:{seed}")
    asked: dict[str, Question] = {}
    shapes, weights = list(MIX), list(MIX.values())
    for _ in range(count * 200):
        if len(asked) == count:
            break
        meaning = _draw(world, rng.choices(shapes, weights)[0], rng)
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


def _draw(world: World, shape: str, rng: random.Random) -> Meaning | None:
    if shape.isdigit():
        path = _walk(world, rng.choice(list(world.ids)), int(shape), rng)
        return Meaning("chain", (path,)) if path else None
    if shape == "same4":
        return _draw_bridged(world, rng)
    kind = rng.choice(("person", "film", "book", "company") if shape == "earlier" else list(OF_TYPE))
    labels = [r.label for r in OF_TYPE[kind] if (r.object == "year") == (shape == "earlier")]
    if not labels:
        return None
    label = rng.choice(labels)
    holders = [name for name in world.ids if world.types[name] == kind and label in world.facts[name]]
    pair = _pair(world, holders, label, rng, even=shape == "same")
    if pair is None or (shape == "earlier" and len({world.facts[name][label] for name in pair}) == 1):
        return None
    return Meaning("earlier" if shape == "earlier" else "same", tuple(Path(name, (label,)) for name in pair))


def _pair(world: World, holders: list[str], label: str, rng: random.Random, *, even: bool) -> tuple[str, str] | None:
    """Two entities that have the relation; with `even`, about half of the pairs share its object."""
    if len(holders) < 2:
        return None
    one = rng.choice(holders)
    alike = [name for name in holders if name != one and world.facts[name][label] == world.facts[one][label]]
    two = rng.choice(alike) if even and alike and rng.random() < 0.7 else rng.choice(holders)
    return (one, two) if one != two else None


def _draw_bridged(world: World, rng: random.Random) -> Meaning | None:
    """Two different entities, one hop each to a person, then the same relation of both persons."""
    bridges = [(name, label) for name, of in world.facts.items() for label in of
               if BY_LABEL[label].object == "person" and label not in ("mother", "spouse")]
    (x, to_x), (y, to_y) = rng.sample(bridges, 2)
    a, b = world.facts[x][to_x], world.facts[y][to_y]
    shared = sorted(set(world.facts[a]) & set(world.facts[b]))
    if x == y or a == b or not shared:
        return None
    label = rng.choice(shared)
    return Meaning("same", (Path(x, (to_x, label)), Path(y, (to_y, label))))


def _walk(world: World, start: str, hops: int, rng: random.Random) -> Path | None:
    at, seen, labels = start, {start}, []
    for hop in range(hops):
        onward = [label for label, value in world.facts.get(at, {}).items()
                  if value not in seen and (hop == hops - 1 or value in world.ids)]
        if not onward:
            return None
        labels.append(rng.choice(onward))
        at = world.facts[at][labels[-1]]
        seen.add(at)
    return Path(start, tuple(labels))
