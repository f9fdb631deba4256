"""The students that StepER is compared with, taught from the same journal at no teacher's cost: each retells the teacher's chain
in the words of its own strategy, so that its prompt is, token for token, what the graph sends it when it is judged.

What the papers' own labellers say (relevance, support, utility) is derived from the journal: a passage is relevant if it is gold,
or, where nobody knows the gold ones, if a line of the chain rests on it (graphs/evidence.py). docs/comparison.md says what is
faithful to each paper and what is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from graphs.evidence import ENOUGH, words
from graphs.strategies import chain_of_note, ircot, sail, self_rag, single_step
from graphs.strategies.reading import find_answer, one_line
from steper_agent.chat.turns import break_markup
from steper_agent.errors import ConfigError
from steper_agent.plain import plain
from steper_agent.records import Kind, Passage, Step, Trajectory, View
from training.examples.filters import Filter, unsupported
from training.examples.labels import fits_of_labels
from training.examples.views import Fit, Retold, Teaching, fit_at, fits_of, kind_of, needed_of
from training.scores.metrics import best, em

FROM = (ircot.NAME, single_step.NAME)
"""Strategies whose first search is for the question and whose later ones are for the last line, as the rivals' are."""
UNFOUND = "rests on what one search does not find"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def fits_for(trajectory: Trajectory, row: int, teaching: Teaching) -> list[Fit]:
    """What the view teaches of a trajectory, a rival's view or not; of a labelled one, its labels."""
    if teaching.view in RIVALS:
        return fits_of_rival(trajectory, row, teaching)
    return (fits_of_labels if trajectory.labels else fits_of)(trajectory, row, teaching)


def fits_of_rival(trajectory: Trajectory, row: int, teaching: Teaching) -> list[Fit]:
    """One example of the rivals that search once, one a step of Self-RAG's, made to fit as `fits_of` does; a passage that is left
    out is not noted or judged either.

    Raises:
        ConfigError: the chain was searched for otherwise than the rival would, or is a student's with a teacher's labels.
    """
    check_from(teaching.view, trajectory.strategy, trajectory.question.id, is_labelled=bool(trajectory.labels))
    retold = RIVALS[teaching.view]
    steps = len(retold(trajectory).steps)
    wanted = [step for step in range(1, steps + 1) if kind_of(step, steps) in teaching.kinds]
    return [fit_at(trajectory, row, step, teaching, retold) for step in wanted]


def check_from(view: View, strategy: str, where: object, *, is_labelled: bool = False) -> None:
    """Raises:
        ConfigError: the rival's view cannot be made of chains of this strategy, or of a student's labelled run.
    """
    if strategy not in FROM or is_labelled:
        whose = "a student's labelled run" if is_labelled else f"a chain of {strategy}"
        raise ConfigError(f"the {view} view cannot be made of {whose}", where=where,
                          fix=f"give a journal of the teacher's own, collected with --strategy {ircot.NAME}")


def check_kinds(view: View, kinds: Collection[Kind], where: object) -> None:
    """Raises:
        ConfigError: the view has no step of any of these kinds.
    """
    if view in ONE_EXAMPLE and "aggregation" not in kinds:
        raise ConfigError(f"the {view} view has no step of these kinds, only aggregation", where=where, fix="add aggregation, or take the stepwise view")


def filters_of(view: View, *, ungrounded: bool = False) -> dict[str, Filter]:
    """Of a rival that searches once: only chains whose relevant passages its search finds. Others would teach to state what is
    not shown. A teacher that is asked with these passages alone and reads nothing into them gets the same questions right."""
    return {} if ungrounded or view not in ONE_SEARCH else {"one_search": lambda told: UNFOUND if unfound(told) else ""}


def unfound(trajectory: Trajectory) -> bool:
    """Whether the first search missed a relevant passage, or the names and numbers of the chain or its answer stand in none that
    it found (`training.examples.filters.unsupported`)."""
    if not trajectory.steps:
        return True
    found = {hit.passage.id for hit in trajectory.steps[0].hits}
    return not needed_of(trajectory) <= found or bool(unsupported(as_single_step(trajectory)))


def as_single_step(trajectory: Trajectory) -> Trajectory:
    """KARD-like (Kang et al. 2023): the passages that the question finds, then the whole rationale and the answer."""
    return _at_once(trajectory, single_step.NAME, lambda rationale, _passages: rationale)


def as_chain_of_note(trajectory: Trajectory) -> Trajectory:
    """Chain-of-Note-like (Yu et al. 2023). A note is the sentence of a relevant passage that shares most words with the chain."""
    needed, said = needed_of(trajectory), _words_of(trajectory)

    def told(rationale: str, passages: Iterable[Passage]) -> str:
        notes = [note_of(passage, said) if passage.id in needed else "" for passage in passages]
        return chain_of_note.write(notes, rationale)

    return _at_once(trajectory, chain_of_note.NAME, told)


def as_sail(trajectory: Trajectory) -> Trajectory:
    """SAIL-like (Luo et al. 2023). A relevant passage is informative, any other distracting."""
    needed = needed_of(trajectory)

    def told(rationale: str, passages: Iterable[Passage]) -> str:
        return sail.write([passage.id in needed for passage in passages], rationale)

    return _at_once(trajectory, sail.NAME, told)


def as_self_rag(trajectory: Trajectory) -> Trajectory:
    """Self-RAG-like (Asai et al. 2024): the same searches and lines, each between its marks. A step is relevant if a passage it
    found is; the answer is of use if it is right, or if nobody knows."""
    needed, read, steps = needed_of(trajectory), list[frozenset[str]](), list[Step]()
    accepted = trajectory.question.answers
    is_right = not accepted or best(em, trajectory.answer, accepted) == 1
    for number, step in enumerate(trajectory.steps, start=1):
        read += [words(f"{hit.passage.title} {hit.passage.text}") for hit in step.hits]
        useful = self_rag.MOST_USEFUL if is_right else self_rag.LEAST_USEFUL
        line = self_rag.write(
            self_rag.unmarked(step.rationale), is_relevant=any(hit.passage.id in needed for hit in step.hits),
            support=_support(step.rationale, read), utility=useful if number == len(trajectory.steps) else None,
        )  # fmt: skip
        steps.append(step.model_copy(update={"rationale": line}))
    return trajectory.model_copy(update={"strategy": self_rag.NAME, "steps": tuple(steps)})


RIVALS: dict[View, Retold] = {
    "single_step": as_single_step, "chain_of_note": as_chain_of_note, "sail": as_sail, "self_rag": as_self_rag,
}  # fmt: skip
ONE_SEARCH: tuple[View, ...] = ("single_step", "chain_of_note", "sail")
"""Rivals that search once, with the question: their only example is an aggregation."""
ONE_EXAMPLE: tuple[View, ...] = ("vanilla", *ONE_SEARCH)


def note_of(passage: Passage, said: frozenset[str]) -> str:
    """The sentence of a passage, as the prompt shows it, that holds most of these words; its title where it has none. One that
    would end the chain by words of its own is passed over."""
    shown, title = (break_markup(one_line(plain(text))) for text in (passage.text, passage.title))
    sentences = [sentence for sentence in _SENTENCE_END.split(shown) if sentence and not find_answer(sentence)]
    return max(sentences, key=lambda sentence: len(words(sentence) & said), default="" if find_answer(title) else title)


def _at_once(trajectory: Trajectory, strategy: str, told: Callable[[str, Iterable[Passage]], str]) -> Trajectory:
    """One search and one turn."""
    first = trajectory.steps[0]
    rationale = told(" ".join(step.rationale for step in trajectory.steps), [hit.passage for hit in first.hits])
    return trajectory.model_copy(update={"strategy": strategy, "steps": (first.model_copy(update={"rationale": rationale}),)})


def _words_of(trajectory: Trajectory) -> frozenset[str]:
    return frozenset[str]().union(*(words(step.rationale) for step in trajectory.steps))


def _support(rationale: str, passages: Iterable[frozenset[str]]) -> self_rag.Support:
    """By the share of the line's words that one passage holds."""
    said = words(rationale)
    share = max((len(said & held) / len(said) for held in passages), default=0.0) if said else 0.0
    return "Fully supported" if share >= ENOUGH else "Partially supported" if share >= ENOUGH / 2 else "No support"
