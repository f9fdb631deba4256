"""Which trajectories are worth teaching: each filter takes one and says why not, or nothing.

A filter only ever leaves a whole trajectory out. Taking steps out of one would show the student prompts that the graph never
sends, so what is kept is still, token for token, what the graph said and saw.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphs.evidence import PLAIN_ANSWERS, words
from graphs.strategies.reading import unconcluded
from steper_agent.errors import ConfigError
from steper_agent.records import Question, Trajectory
from training.examples.labels import is_right
from training.examples.views import uses_other_tools
from training.scores.metrics import best, em, normalise

Filter = Callable[[Trajectory], str]
"""Why this trajectory is left out; empty if it stays."""

WRONG, UNKNOWN = "wrong answer", "no answer to compare with"
UNTRUSTED = "labels of a teacher that lost its way"
UNSUPPORTED, LUCKY = "unsupported rationale", "unsupported answer"
DETOUR = "a step that the answer does not need"
DUPLICATE = "duplicate"
SAME_ID, SAME_TEXT = "held out: same id", "held out: same question"

GRAM = 8
"""Words in a row that two questions share by more than chance."""
SHOWN = 10
"""Questions that a warning names."""

_SENTENCE_END = re.compile(r"(?<!\b[^\W\d_])[.!?]+\s+(?=[^\W\d_])|\n")
"""Neither the full stop of an initial nor that of No. 1."""
_WORD = re.compile(r"[^\W_]+")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]+)[\"”»]")
_CITED = re.compile(r"\[\d+\]|\bpassages? \d+", flags=re.IGNORECASE)
_LEADS = frozenset(
    ["according", "after", "all", "also", "although", "another", "because", "before", "both", "but", "during", "either", "finally",
     "first", "hence", "how", "however", "if", "like", "neither", "next", "no", "not", "now", "one", "only", "since", "some",
     "such", "then", "therefore", "these", "this", "those", "though", "thus", "under", "we", "when", "where", "while", "with", "you"]
)
"""Words that open sentences and name nothing."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")


def first_reason(trajectory: Trajectory, filters: Iterable[Filter]) -> str:
    """Of the first filter that leaves it out; those behind it do not see the trajectory."""
    return next((reason for leaves_out in filters if (reason := leaves_out(trajectory))), "")


def filters_for(held_out: HeldOut, *, correct: bool, supported: bool, contributing: bool, dedupe: bool) -> dict[str, Filter]:
    """Those asked for, by name. They keep the same trajectories in any order, but that equal ones are looked for last.

    Of a student's run that its teacher labelled the labels are learned: what the student said itself need not be finished, right
    or supported.
    """
    known: dict[str, tuple[bool, Filter]] = {
        "finished": (True, _unlabelled(unfinished)), "correct": (correct, incorrect), "held_out": (bool(held_out.ids), held_out.leaked),
        "supported": (supported, _unlabelled(unsupported)), "contributing": (contributing, _unlabelled(wandering)),
        "dedupe": (dedupe, unrepeated()),
    }  # fmt: skip
    return {name: leaves_out for name, (is_on, leaves_out) in known.items() if is_on}


def _unlabelled(leaves_out: Filter) -> Filter:
    return lambda trajectory: "" if trajectory.labels else leaves_out(trajectory)


def unfinished(trajectory: Trajectory) -> str:
    """A run that did not come to an answer by the student's own means."""
    if trajectory.stop != "answered":
        return f"stopped by {trajectory.stop}"
    if not all(step.rationale for step in trajectory.steps):
        return "empty rationale"
    if not trajectory.steps and trajectory.strategy != "direct":
        return "no search"
    return "used a tool other than search" if uses_other_tools(trajectory) else ""


def incorrect(trajectory: Trajectory) -> str:
    """An answer that is not one of the accepted ones, by the data sets' exact match; of a labelled run, a teacher that is not right."""
    if trajectory.labels:
        return "" if is_right(trajectory) else UNTRUSTED
    if not trajectory.question.answers:
        return UNKNOWN
    return "" if best(em, trajectory.answer, trajectory.question.answers) == 1 else WRONG


def unsupported(trajectory: Trajectory) -> str:
    """A chain that says what it has not read: right by luck, or from what the teacher knew before.

    Every name, number and quoted text of a rationale must stand, all its words together, in one passage found so far, in the
    question or in one earlier rationale; and the answer, unless it is a plain yes or no, in a passage or the question.

    It goes by words. It cannot see a false relation between true names, a name spelt otherwise in the passages (American for
    United States), a wrong statement without any name, or a name of one word that opens a sentence, whose capital says nothing.
    What is computed (45 years) stands nowhere and is taken for unsupported.
    """
    known = [_words(trajectory.question.text)]
    if not _states(known, named(trajectory.opening)):
        return UNSUPPORTED
    read = list(known)
    for step in trajectory.steps:
        found = [_words(f"{hit.passage.title} {hit.passage.text}") for hit in step.hits]
        known, read = known + found, read + found
        if not _states(known, named(step.rationale)):
            return UNSUPPORTED
        known.append(_words(step.rationale))
    answer = _words(trajectory.answer)
    return "" if answer <= PLAIN_ANSWERS or _states(read, [answer]) else LUCKY


def wandering(trajectory: Trajectory) -> str:
    """A chain with a step whose rationale did not contribute to the answer, found by backtracing (KnowTrace, Li et al. 2025).

    The last step is needed, with the steps before it that only put known things together, if it does so itself. A step is
    needed that was the first to name something a needed one says or asks for. Where that leaves out something that the question
    names, or that a needed step brought up, the last step that has news of it is needed: a comparison needs both its sides.

    The trajectory is left out, not the step. The passages behind a removed step were found with its words as the query or by a
    question asked after reading it, and those it had shown are not shown again later: without it the student would be taught
    prompts that the graph never sends.
    """
    if len(trajectory.steps) < 2:
        return ""
    said, new = _said(trajectory), _first_named(trajectory)
    asked = _all(named(trajectory.question.text, openers=True))
    is_a_choice = bool(asked) and _words(trajectory.answer) <= _words(trajectory.question.text) | PLAIN_ANSWERS
    needed = _conclusion(said, new, is_a_choice=is_a_choice)
    while len(needed) < len(said):
        left = [number for number in range(len(said)) if number not in needed]
        wanted = _all(said[number] for number in needed)
        loose = _loose(asked, [said[number] for number in needed if new[number]], _all(new[number] for number in needed))
        traced = next((number for number in left if new[number] & wanted), None)
        more = traced if traced is not None else next((one for one in reversed(left) if new[one] and said[one] & loose), None)
        if more is None:
            return DETOUR
        needed.add(more)
    return ""


def unrepeated() -> Filter:
    """A filter that lets the first of equal trajectories through: the same question, but for case, punctuation and articles,
    with the same rationales. It remembers what it has seen, so it goes behind all others: what they leave out is no original.
    """
    seen: set[tuple[str, ...]] = set()

    def repeated(trajectory: Trajectory) -> str:
        chain = (normalise(trajectory.question.text), trajectory.opening, *(step.rationale for step in trajectory.steps))
        if chain in seen:
            return DUPLICATE
        seen.add(chain)
        return ""

    return repeated


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Questions that a student will be judged by, and must not have been taught."""

    ids: frozenset[str]
    texts: frozenset[str]
    grams: dict[tuple[str, ...], str]
    """`GRAM` words in a row → the id of a question that has them."""

    @classmethod
    def of(cls, questions: Iterable[Question]) -> HeldOut:
        asked = list(questions)
        grams = {gram: question.id for question in asked for gram in _grams(question.text)}
        return cls(frozenset(one.id for one in asked), frozenset(normalise(one.text) for one in asked), grams)

    def leaked(self, trajectory: Trajectory) -> str:
        """The filter: the same question, by its id or by its text but for case, punctuation and articles."""
        return self.holds(trajectory.question)

    def holds(self, question: Question) -> str:
        """Why the question may not be taught; empty if it may."""
        if question.id in self.ids:
            return SAME_ID
        return SAME_TEXT if normalise(question.text) in self.texts else ""

    def near(self, question: Question) -> list[str]:
        """That a held-out question has `GRAM` words in a row in common with this one, in words; nothing if none has."""
        return [f"{question.id} is like {self.grams[gram]}" for gram in _grams(question.text) if gram in self.grams][:1]


def near_told(near: Sequence[str]) -> tuple[str, ...]:
    """The warning that the card has for questions that are near a held-out one; none if there are none."""
    if not near:
        return ()
    more = f", and {len(near) - SHOWN} more" if len(near) > SHOWN else ""
    return (f"{len(near)} kept questions share {GRAM} words in a row with a held-out one: {', '.join(near[:SHOWN])}{more}",)


def recipes_of(journals: Mapping[Path, Sequence[Trajectory]], *, mixed: bool) -> tuple[str, ...]:
    """The recipes of all trajectories, which is one unless `mixed` ones are allowed. Labelled rounds of a student each have their
    own and are meant to be mixed.

    Raises:
        ConfigError: several recipes: a student would be taught prompts, numbers of passages or teachers it is not told apart.
    """
    counts = Counter((one.recipe, one.strategy, str(path)) for path, told in journals.items() for one in told)
    recipes = tuple(sorted({recipe for recipe, _, _ in counts}))
    plain = {one.recipe for told in journals.values() for one in told if not one.labels}
    if len(plain) > 1 and not mixed:
        found = "; ".join(f"{recipe[:12] or 'unnamed'} ({count} {strategy} trajectories in {path})"
                          for (recipe, strategy, path), count in sorted(counts.items()))
        raise ConfigError(f"{len(recipes)} recipes are mixed: {found}", where=", ".join(map(str, journals)),
                          fix="give journals of one recipe, or take them together with --allow-mixed-recipes")
    return recipes


def named(text: str, *, openers: bool = False) -> list[frozenset[str]]:
    """What a text speaks of: names in capitals, numbers, quoted texts, each as its words. The word that opens a sentence has a
    capital anyway: it counts with `openers`, or where nothing in the sentence is in small letters."""
    text = _THOUSANDS.sub("", _CITED.sub(" ", text))
    found = [words(quoted) for quoted in _QUOTED.findall(text)]
    for sentence in _SENTENCE_END.split(text):
        found += _runs(sentence, openers=openers)
    return [entity for entity in found if entity]


def _runs(sentence: str, *, openers: bool) -> list[frozenset[str]]:
    """Capitalised words side by side, and numbers each by itself. A single letter is an initial, and says too little."""
    tokens = list(_WORD.finditer(sentence))
    openers = openers or all(token[0][0].isupper() or token[0][0].isdigit() for token in tokens)
    runs: list[list[str]] = []
    end = len(sentence)
    for at, token in enumerate(tokens):
        word = token[0]
        if word[0].isdigit():
            runs.append([word])
        elif word[0].isupper() and len(word) > 1 and (at > 0 or openers):
            if sentence[end : token.start()] in (" ", "-"):
                runs[-1].append(word)
            else:
                runs.append([word])
            end = token.end()
    found = [words(" ".join(run)) for run in runs]
    return [found[0] - _LEADS, *found[1:]] if found else []


def _words(text: str) -> frozenset[str]:
    return words(_THOUSANDS.sub("", text))


def _states(sources: Sequence[frozenset[str]], entities: Iterable[frozenset[str]]) -> bool:
    return all(any(entity <= source for source in sources) for entity in entities)


def _said(trajectory: Trajectory) -> list[frozenset[str]]:
    """The words of every step and of the answer, which is the last one's. A query that only repeats the line before, or the
    question, says nothing of its own."""
    lines = [trajectory.question.text, *(step.rationale for step in trajectory.steps)]
    said = [_words(step.rationale) | (_words(step.query) if step.query not in (lines[0], before) else frozenset())
            for before, step in zip(lines, trajectory.steps, strict=False)]
    return [*said[:-1], said[-1] | _words(trajectory.answer)]


def _first_named(trajectory: Trajectory) -> list[frozenset[str]]:
    """What every step was the first to name, its conclusion apart; a word of the answer counts without a capital."""
    before, answer = _words(f"{trajectory.question.text} {trajectory.opening}"), _words(trajectory.answer)
    found = []
    for step in trajectory.steps:
        told = unconcluded(step.rationale)
        found.append((_all(named(told, openers=True)) | _words(told) & answer) - before)
        before |= _words(told)
    return found


def _conclusion(said: Sequence[frozenset[str]], new: Sequence[frozenset[str]], *, is_a_choice: bool) -> set[int]:
    """The last step and, if it has no news, those before it without any. Where the answer is not one of what the question offers
    and no step was the first to name it, it is taken for another word for the last news: Germany where that says German."""
    start = len(said) - 1
    if not new[start]:
        while start and not new[start - 1]:
            start -= 1
        if not is_a_choice and not any(one & _all(said[start:]) for one in new[:start]):
            start = max(0, start - 1)
    return set(range(start, len(said)))


def _loose(asked: frozenset[str], told: Sequence[frozenset[str]], named_there: frozenset[str]) -> frozenset[str]:
    """Of what the question names, what none of these steps tells; of what they named themselves, what only one of them tells."""
    times = Counter(word for words_of_one in told for word in words_of_one)
    return frozenset(word for word in asked if not times[word]) | frozenset(word for word in named_there if times[word] < 2)


def _all(entities: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*entities)


def _grams(text: str) -> list[tuple[str, ...]]:
    tokens = normalise(text).split()
    return [tuple(tokens[at : at + GRAM]) for at in range(len(tokens) - GRAM + 1)]
