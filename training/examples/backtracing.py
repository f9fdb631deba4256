"""Which steps of a chain its answer needs, found by backtracing (KnowTrace, Li et al. 2025)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from graphs.evidence import PLAIN_ANSWERS
from graphs.strategies.reading import unconcluded
from steper_agent.records import Trajectory
from training.examples.names import named, words_of

DETOUR = "a step that the answer does not need"


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
    asked = _union(named(trajectory.question.text, openers=True))
    is_a_choice = bool(asked) and words_of(trajectory.answer) <= words_of(trajectory.question.text) | PLAIN_ANSWERS
    needed = _conclusion(said, new, is_a_choice=is_a_choice)
    while len(needed) < len(said):
        left = [number for number in range(len(said)) if number not in needed]
        wanted = _union(said[number] for number in needed)
        loose = _loose(asked, [said[number] for number in needed if new[number]], _union(new[number] for number in needed))
        traced = next((number for number in left if new[number] & wanted), None)
        more = traced if traced is not None else next((one for one in reversed(left) if new[one] and said[one] & loose), None)
        if more is None:
            return DETOUR
        needed.add(more)
    return ""


def _said(trajectory: Trajectory) -> list[frozenset[str]]:
    """The words of every step and of the answer, which is the last one's. A query that only repeats the line before, or the
    question, says nothing of its own."""
    lines = [trajectory.question.text, *(step.rationale for step in trajectory.steps)]
    said = [words_of(step.rationale) | (words_of(step.query) if step.query not in (lines[0], before) else frozenset())
            for before, step in zip(lines, trajectory.steps, strict=False)]
    return [*said[:-1], said[-1] | words_of(trajectory.answer)]


def _first_named(trajectory: Trajectory) -> list[frozenset[str]]:
    """What every step was the first to name, its conclusion apart; a word of the answer counts without a capital."""
    before, answer = words_of(f"{trajectory.question.text} {trajectory.opening}"), words_of(trajectory.answer)
    found = []
    for step in trajectory.steps:
        told = unconcluded(step.rationale)
        found.append((_union(named(told, openers=True)) | words_of(told) & answer) - before)
        before |= words_of(told)
    return found


def _conclusion(said: Sequence[frozenset[str]], new: Sequence[frozenset[str]], *, is_a_choice: bool) -> set[int]:
    """The last step and, if it has no news, those before it without any. Where the answer is not one of what the question offers
    and no step was the first to name it, it is taken for another word for the last news: Germany where that says German."""
    start = len(said) - 1
    if not new[start]:
        while start and not new[start - 1]:
            start -= 1
        if not is_a_choice and not any(one & _union(said[start:]) for one in new[:start]):
            start = max(0, start - 1)
    return set(range(start, len(said)))


def _loose(asked: frozenset[str], told: Sequence[frozenset[str]], named_there: frozenset[str]) -> frozenset[str]:
    """Of what the question names, what none of these steps tells; of what they named themselves, what only one of them tells."""
    times = Counter(word for words_of_one in told for word in words_of_one)
    return frozenset(word for word in asked if not times[word]) | frozenset(word for word in named_there if times[word] < 2)


def _union(entities: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*entities)
