"""Which trajectories are worth teaching: each filter takes one and says why not, or nothing.

A filter only ever leaves a whole trajectory out. Taking steps out of one would show the student prompts that the graph never
sends, so what is kept is still, token for token, what the graph said and saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from graphs.evidence import PLAIN_ANSWERS
from steper_agent.errors import ConfigError
from steper_agent.records import Trajectory
from training.examples.backtracing import wandering
from training.examples.held_out import HeldOut
from training.examples.labels import is_right
from training.examples.names import named, words_of
from training.examples.views import uses_other_tools
from training.scores.metrics import best, em, normalise

Filter = Callable[[Trajectory], str]
"""Why this trajectory is left out; empty if it stays."""

WRONG, UNKNOWN = "wrong answer", "no answer to compare with"
UNTRUSTED = "labels of a teacher that lost its way"
UNSUPPORTED, LUCKY = "unsupported rationale", "unsupported answer"
DUPLICATE = "duplicate"


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
    known = [words_of(trajectory.question.text)]
    if not _states(known, named(trajectory.opening)):
        return UNSUPPORTED
    read = list(known)
    for step in trajectory.steps:
        found = [words_of(f"{hit.passage.title} {hit.passage.text}") for hit in step.hits]
        known, read = known + found, read + found
        if not _states(known, named(step.rationale)):
            return UNSUPPORTED
        known.append(words_of(step.rationale))
    answer = words_of(trajectory.answer)
    return "" if answer <= PLAIN_ANSWERS or _states(read, [answer]) else LUCKY


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


def recipes_of(journals: Mapping[Path, Sequence[Trajectory]], *, mixed: bool) -> tuple[str, ...]:
    """The recipes of all trajectories, which is one unless `mixed` ones are allowed. Labelled rounds of a student each have their
    own and are meant to be mixed, but of one strategy.

    Raises:
        ConfigError: several recipes: a student would be taught prompts, numbers of passages or teachers it is not told apart.
    """
    counts = Counter((one.recipe, one.strategy, str(path)) for path, told in journals.items() for one in told)
    recipes = tuple(sorted({recipe for recipe, _, _ in counts}))
    plain = {one.recipe for told in journals.values() for one in told if not one.labels}
    strategies = {strategy for _, strategy, _ in counts}
    if max(len(plain), len(strategies)) > 1 and not mixed:
        found = "; ".join(f"{recipe[:12] or 'unnamed'} ({count} {strategy} trajectories in {path})"
                          for (recipe, strategy, path), count in sorted(counts.items()))
        raise ConfigError(f"{len(recipes)} recipes are mixed: {found}", where=", ".join(map(str, journals)),
                          fix="give journals of one recipe, or take them together with --allow-mixed-recipes")
    return recipes


def _states(sources: Sequence[frozenset[str]], entities: Iterable[frozenset[str]]) -> bool:
    return all(any(entity <= source for source in sources) for entity in entities)
