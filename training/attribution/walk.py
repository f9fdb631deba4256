"""A trajectory beside the right chain: which hops every line states, which passages had been read by then, and what it names that
nobody had said. By words, not by a model. What attribution and ability scores rest on; nothing here judges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphs.evidence import supporting, words
from graphs.strategies.reading import unconcluded
from steper_agent.records import Hit, Trajectory
from training.attribution.gold import names_in
from training.attribution.records import Gold, Link
from training.scores.metrics import normalise

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_PLAN = re.compile(r"(?:\w+, )?(?:I|We|we|Let)\b")
"""How a sentence begins that says what to look for, and states nothing."""
_REFUSAL = re.compile(r"\b(?:(?:do|does|did)(?: not|n't) (?:\w+ )?(?:say|state|tell|mention|give|name|specify|provide|contain|include|agree)"
                      r"|not (?:said|stated|told|mentioned|given|named|specified|provided|known|found))\b")
"""What a sentence says that finds nothing in the passages; it may well repeat their words."""


@dataclass(frozen=True, slots=True)
class Walked:
    """One step."""

    stated: frozenset[int]
    """Hops (their places in the chain) that no line before it had stated."""
    read: frozenset[int]
    """Hops one of whose passages has been found by then; a hop whose passages nobody knows counts as read."""
    again: bool
    """Its line states nothing but hops that were stated before."""
    strange: str
    """What its line says that is none of the chain: in a closed world a fact, else the first name or number that neither the question,
    nor a line before it, nor the right chain holds; or empty."""


def walk(trajectory: Trajectory, gold: Gold) -> list[Walked]:
    """Every step of a trajectory, in order."""
    chain = _Said(" ".join(f"{link.subject}. {'. '.join(link.objects)}." for link in gold.links))
    before, done, hits, found = _Said(trajectory.question.text) + _Said(trajectory.opening), frozenset[int](), list[Hit](), list[Walked]()
    for step in trajectory.steps:
        hits += step.hits
        text = unconcluded(step.rationale)
        line, facts = _Said(text), _facts_in(text) if gold.closed else []
        held = _held(line, facts, gold, before) if gold.certainty == "chain" else _rests_on(step.rationale, gold, hits)
        read = frozenset(place for place, link in enumerate(gold.links) if _is_read(link, hits))
        strange = _other_fact(facts, gold) or line.first_not_in(chain + before, whole=gold.closed)
        found.append(Walked(stated=held - done, read=read, again=bool(held) and held <= done, strange=strange))
        done, before = done | held, before + line
    return found


def unstated(gold: Gold, walked: Sequence[Walked]) -> list[int]:
    """The hops that none of these steps states, in their order."""
    stated = frozenset[int]().union(*(seen.stated for seen in walked))
    return [place for place in range(len(gold.links)) if place not in stated]


class _Said:
    """What a text speaks of: its words, and its names and numbers, each as its words."""

    def __init__(self, text: str) -> None:
        self.words, self.names = words(text), names_in(text)

    def first_not_in(self, known: _Said, *, whole: bool) -> str:
        """The first name that is not known; `whole`: by none of its parts, for where names are near misses, `Ada Bel` is not Ada."""
        new = (name for name in self.names if not (name in known.names if whole else name <= known.words))
        return " ".join(sorted(next(new, ())))

    def speaks_of(self, one: str) -> bool:
        return bool(words(one)) and words(one) <= self.words

    def __add__(self, other: _Said) -> _Said:
        both = _Said("")
        both.words, both.names = self.words | other.words, [*self.names, *other.names]
        return both


def contradicts(line: str, link: Link) -> str:
    """What a line says of this very hop in place of what is right: of its subject and relation, another name, or, where the right
    object is no name (an occupation), another word. Empty if it says nothing of the hop."""
    right = [words(one) for one in (link.subject, link.relation, *link.objects)]
    is_name = any(map(names_in, link.objects))
    for sentence in _SENTENCE.split(unconcluded(line)):
        said = words(sentence)
        if not link.subject or not link.relation or _PLAN.match(sentence) or _REFUSAL.search(sentence) or not right[0] | right[1] <= said:
            continue
        others = [name for name in names_in(sentence) if name not in right] if is_name else [said.difference(*right)]
        if others and others[-1]:
            return " ".join(sorted(others[-1]))
    return ""


def share(line: str, link: Link) -> float:
    """How much of what the hop brings up a line names, in [0, 1]; in words, since a name may be named in part."""
    wanted = words(" ".join(link.objects))
    return len(wanted & words(line)) / len(wanted) if wanted else 0.0


def _facts_in(text: str) -> list[tuple[str, str, str]]:
    """What a micro-world's line states: subject, relation, object."""
    from training.microworld.language import conclusions_in

    return [(fact.subject, fact.label, fact.object) for fact in conclusions_in(text)]


def _other_fact(facts: Sequence[tuple[str, str, str]], gold: Gold) -> str:
    """What a line states that is no hop of the chain."""
    right = {(link.subject, link.relation, one) for link in gold.links for one in link.objects}
    return next((f"the {label} of {subject}: {object}" for subject, label, object in facts if (subject, label, object) not in right), "")


def _held(line: _Said, facts: Sequence[tuple[str, str, str]], gold: Gold, before: _Said) -> frozenset[int]:
    """Hops that a line states: in a closed world those it has as facts; elsewhere those whose subject and object it names. There a
    line may well say `he`: without its subject it states a hop by a name that is new, and that is not what it says of another's."""
    if gold.closed:
        return frozenset(place for place, link in enumerate(gold.links) if any((link.subject, link.relation, one) in facts for one in link.objects))
    sure = {place for place, link in enumerate(gold.links) if link.subject and line.speaks_of(link.subject) and _names(line, link)}
    taken = {one for place in sure for one in gold.links[place].objects}
    for place, link in enumerate(gold.links):
        is_new = not taken & set(link.objects) and not all(map(before.speaks_of, link.objects))
        if place not in sure and is_new and _names(line, link):
            sure.add(place)
            taken |= set(link.objects)
    return frozenset(sure)


def _names(line: _Said, link: Link) -> bool:
    return sum(map(line.speaks_of, link.objects)) * 2 > len(link.objects)


def _rests_on(line: str, gold: Gold, hits: Sequence[Hit]) -> frozenset[int]:
    """Hops of a chain of which only the passages are known: a sentence of the line holds what one of them says."""
    known = {hit.passage.id: words(f"{hit.passage.title} {hit.passage.text}") for hit in hits}
    told = [sentence for sentence in _SENTENCE.split(line) if not _PLAN.match(sentence) and not _REFUSAL.search(sentence)]
    used = {hit.passage.id for sentence in told for hit in supporting(sentence, hits, known)}
    return frozenset(place for place, link in enumerate(gold.links) if used & set(link.passages))


def _is_read(link: Link, hits: Sequence[Hit]) -> bool:
    if not link.passages and not link.titles:
        return True
    return any(hit.passage.id in link.passages or normalise(hit.passage.title) in link.titles for hit in hits)
