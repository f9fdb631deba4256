"""The language of the micro-world: its words, types, relations and phrasings, and how its sentences are read back.

Every sentence a world prints can be parsed without knowing the world; the symbolic teacher relies on nothing else.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from training.microworld import paraphrases

FIRST_YEAR, LAST_YEAR = 1900, 1999
UNKNOWN = "unknown"
"""The answer where the passages do not settle it."""

PROFESSIONS = (
    "painter", "sculptor", "surgeon", "botanist", "chemist", "violinist", "lawyer", "architect", "sailor", "poet",
    "judge", "baker", "pilot", "weaver", "teacher", "farmer", "printer", "dancer", "jeweller", "engineer",
)  # fmt: skip
LANGUAGES = (
    "Arvish", "Belric", "Corsan", "Dravic", "Elvane", "Fennic", "Gorlish", "Hestian", "Ithric", "Jorvan",
    "Kaldic", "Lusran", "Morvic", "Nolish", "Ostran", "Pelvic", "Quorish", "Rasnic", "Selvan", "Tarvic",
)  # fmt: skip


class Relation(NamedTuple):
    label: str
    """As in "The LABEL of X is Y."; unique in the language."""
    subject: str
    object: str
    """An entity type, or one of the literals `year`, `profession`, `language`."""
    phrasings: tuple[str, str, str]
    """How an encyclopaedia may say it: `{s}` and `{o}` stand for subject and object."""


RELATIONS: tuple[Relation, ...] = (
    Relation("birthplace", "person", "city", ("{s} was born in {o}.", "The birthplace of {s} is {o}.", "{s} came into the world in {o}.")),
    Relation("mother", "person", "person", ("{s} is a child of the mother {o}.", "The mother of {s} is {o}.", "{s} was raised by a mother named {o}.")),
    Relation("spouse", "person", "person", ("{s} is married to {o}.", "The spouse of {s} is {o}.", "{s} shares a home with the spouse {o}.")),
    Relation("employer", "person", "company", ("{s} works for {o}.", "The employer of {s} is {o}.", "{s} earns a living at {o}.")),
    Relation("alma mater", "person", "university", ("{s} studied at {o}.", "The alma mater of {s} is {o}.", "{s} holds a degree from {o}.")),
    Relation("birth year", "person", "year", ("{s} was born in the year {o}.", "The birth year of {s} is {o}.", "{s} has been alive since {o}.")),
    Relation("profession", "person", "profession", ("{s} is known as a {o}.", "The profession of {s} is {o}.", "{s} was trained as a {o}.")),
    Relation("director", "film", "person", ("{s} was directed by {o}.", "The director of {s} is {o}.", "{s} was made under the director {o}.")),
    Relation("star", "film", "person", ("{s} stars {o}.", "The star of {s} is {o}.", "{s} shows in its leading role {o}.")),
    Relation("studio", "film", "company", ("{s} was produced by {o}.", "The studio of {s} is {o}.", "{s} was shot by the studio {o}.")),
    Relation("release year", "film", "year", ("{s} was released in {o}.", "The release year of {s} is {o}.", "{s} reached the cinemas in {o}.")),
    Relation("author", "book", "person", ("{s} was written by {o}.", "The author of {s} is {o}.", "{s} comes from the pen of {o}.")),
    Relation("publisher", "book", "company", ("{s} was published by {o}.", "The publisher of {s} is {o}.", "{s} was printed by the publisher {o}.")),
    Relation("publication year", "book", "year", ("{s} first appeared in {o}.", "The publication year of {s} is {o}.", "{s} went on sale in {o}.")),
    Relation("founder", "company", "person", ("{s} was founded by {o}.", "The founder of {s} is {o}.", "{s} was set up by {o}.")),
    Relation("headquarters", "company", "city", ("{s} is based in {o}.", "The headquarters of {s} is {o}.", "{s} has its main office in {o}.")),
    Relation("founding year", "company", "year", ("{s} opened its doors in {o}.", "The founding year of {s} is {o}.", "{s} has traded since {o}.")),
    Relation("campus", "university", "city", ("{s} teaches its students in {o}.", "The campus of {s} is {o}.", "{s} has its lecture halls in {o}.")),
    Relation("rector", "university", "person", ("{s} is led by the rector {o}.", "The rector of {s} is {o}.", "{s} elected as its rector {o}.")),
    Relation("singer", "band", "person", ("{s} performs with the singer {o}.", "The singer of {s} is {o}.", "{s} is fronted by {o}.")),
    Relation("hometown", "band", "city", ("{s} was formed in {o}.", "The hometown of {s} is {o}.", "{s} gave its first concert in {o}.")),
    Relation("label", "band", "company", ("{s} records for {o}.", "The label of {s} is {o}.", "{s} signed with the label {o}.")),
    Relation("country", "city", "country", ("{s} lies in {o}.", "The country of {s} is {o}.", "{s} belongs to {o}.")),
    Relation("mayor", "city", "person", ("{s} is governed by the mayor {o}.", "The mayor of {s} is {o}.", "{s} chose as its mayor {o}.")),
    Relation("river", "city", "river", ("{s} stands on the banks of {o}.", "The river of {s} is {o}.", "{s} draws its water from {o}.")),
    Relation("capital", "country", "city", ("{s} is ruled from its capital {o}.", "The capital of {s} is {o}.", "{s} has its parliament in {o}.")),
    Relation("president", "country", "person", ("{s} is headed by the president {o}.", "The president of {s} is {o}.", "{s} voted for the president {o}.")),
    Relation("language", "country", "language", ("{s} speaks {o}.", "The language of {s} is {o}.", "{s} writes its laws in {o}.")),
    Relation("mouth", "river", "city", ("{s} meets the sea at {o}.", "The mouth of {s} is {o}.", "{s} ends its course at {o}.")),
    Relation("architect", "museum", "person", ("{s} was designed by {o}.", "The architect of {s} is {o}.", "{s} was drawn up by {o}.")),
    Relation("site", "museum", "city", ("{s} welcomes its visitors in {o}.", "The site of {s} is {o}.", "{s} keeps its collection in {o}.")),
)  # fmt: skip

LITERALS: dict[str, tuple[str, ...]] = {
    "year": tuple(str(year) for year in range(FIRST_YEAR, LAST_YEAR + 1)),
    "profession": PROFESSIONS,
    "language": LANGUAGES,
}
TYPES = ("person", "city", "country", "film", "book", "company", "university", "band", "river", "museum")
BY_LABEL = {relation.label: relation for relation in RELATIONS}
OF_TYPE = {kind: tuple(r for r in RELATIONS if r.subject == kind) for kind in TYPES}


@cache
def name_words() -> tuple[str, ...]:
    """The 512 words all names are made of: a fixed pool, so that each word can be one token of the base model."""
    onsets = ("B", "D", "F", "G", "H", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W", "Z")
    vowels = ("a", "e", "i", "o")
    codas = ("ldor", "mkin", "rnas", "stel", "vrin", "zmot", "ndal", "lber")
    return tuple(o + v + c for o in onsets for v in vowels for c in codas)


NAME = r"[A-Z][a-z]+(?: [A-Z][a-z]+)+"
OBJECT = rf"{NAME}|[A-Z][a-z]+|[a-z]+|\d{{4}}"
"""A name, a language, a profession or a year."""
_HEAD = re.compile(rf"(?P<s>{NAME}) is a (?:{'|'.join(TYPES)})\.")
_THIS = re.compile(rf"\AThis (?:{'|'.join(TYPES)})(?= )")


class Fact(NamedTuple):
    subject: str
    label: str
    object: str


def canonical(fact: Fact) -> str:
    """The one sentence a rationale uses for a fact."""
    return f"The {fact.label} of {fact.subject} is {fact.object}."


def missing(subject: str, label: str) -> str:
    """What a rationale says when no passage holds the fact."""
    return f"The passages do not say what the {label} of {subject} is."


def disputed(subject: str, label: str) -> str:
    """What a rationale says when the passages state several facts where there is one."""
    return f"The passages do not agree on what the {label} of {subject} is."


def head(name: str, kind: str) -> str:
    """The first sentence of a passage."""
    return f"{name} is a {kind}."


def dated(sentence: str, year: int | str) -> str:
    """A sentence marked as of a year: it says what was, and is read as no fact. The mark stands in every sentence, so that it
    stays with each piece of a passage that is cut up."""
    return f"As of {year}, {sentence[0].lower() if sentence.startswith('The ') else sentence[0]}{sentence[1:]}"


@cache
def _words_between() -> dict[str, str]:
    """The words between subject and object, in phrasings that open with the subject → the relation's label."""
    return {
        phrasing.removeprefix("{s}").removesuffix("{o}."): relation.label
        for relation in RELATIONS for phrasing in (*relation.phrasings, *paraphrases.FACTS[relation.label]) if phrasing.startswith("{s}")
    }  # fmt: skip


@cache
def _phrasing_reader() -> re.Pattern[str]:
    """One pattern for all of them: tried one after another, they cost a teacher more time than all its reasoning."""
    between = "|".join(map(re.escape, _words_between()))
    return re.compile(rf"(?P<s>{NAME})(?P<between>{between})(?P<o>{OBJECT})\.")


@cache
def _canonical_reader() -> re.Pattern[str]:
    labels = "|".join(sorted(BY_LABEL, key=len, reverse=True))
    return re.compile(rf"The (?P<label>{labels}) of (?P<s>{NAME}) is (?P<o>{OBJECT})\.")


def sentences(text: str) -> list[str]:
    """Split at full stops; the language has no abbreviations."""
    return [part.strip() + "." for part in text.split(".") if part.strip()]


@cache
def _fact_in(sentence: str) -> Fact | None:
    if stated := _canonical_reader().fullmatch(sentence):
        return Fact(stated["s"], stated["label"], stated["o"])
    said = _phrasing_reader().fullmatch(sentence)
    return Fact(said["s"], _words_between()[said["between"]], said["o"]) if said else None


@cache
def _subject_of(sentence: str) -> str:
    """Whom a passage that opens with this sentence is about; empty if it opens otherwise."""
    opened = _HEAD.fullmatch(sentence)
    return opened["s"] if opened else ""


def facts_in(text: str) -> list[Fact]:
    """Every fact the sentences of a passage state, whatever their phrasing. `This film` is the one that the first is about."""
    said = sentences(text)
    subject = _subject_of(said[0]) if said else ""
    if subject:
        said = [_THIS.sub(subject, sentence) if sentence.startswith("This ") else sentence for sentence in said]
    return [fact for sentence in said if (fact := _fact_in(sentence))]


def conclusions_in(rationale: str) -> list[Fact]:
    """Every fact a rationale has stated, in its canonical form."""
    return [Fact(m["s"], m["label"], m["o"]) for m in _canonical_reader().finditer(rationale)]
