"""A few questions walked through the real graph, index and prompts before a teacher is paid, so that lengths, memory and disk are
known. In: the settings of collect; out: a journal in a folder of its own, with chains as long as the budget allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from graphs.run import Context, answer_all
from graphs.strategies import ircot, strategy_named
from graphs.strategies.exemplars import read_exemplars
from steper_agent.journal import Journal
from steper_agent.records import Question
from training.models import open_model
from training.replay import Chain, read_chains, teacher_of
from training.scores.metrics import best, em

if TYPE_CHECKING:
    from steper_agent.retrieval import IndexRetriever, RemoteRetriever
    from training.collect import CollectConfig

QUESTIONS = 24
LINE = 40
"""Most words of a made line; a teacher's are about as long."""
_SENTENCE = re.compile(r".*?[.!?](?=\s|$)", re.DOTALL)


class Rehearsed(NamedTuple):
    journal: Path
    asked: int
    failed: int
    """Runs that a node ended."""
    right: int
    """That came to an accepted answer."""
    lines: str
    """Whose lines these are, in words."""
    strategy: str
    """`ircot` where lines had to be made, whatever the recipe's: the others' prompts are of about the same length."""


def rehearse(config: CollectConfig, questions: Sequence[Question], index: IndexRetriever | RemoteRetriever, folder: Path) -> Rehearsed:
    """The journal of a run over some of the questions, spread over the file. No teacher is asked.

    The lines are the recipe's own where it replays chains or has the symbolic teacher; else sentences of the gold passages, one a
    step until the budget is spent, and then the answer: the longest prompts that a chain can come to, but for its wording.

    Raises:
        DataError, ModelError: a chain or an exemplar cannot be used.
    """
    asked = [questions[at * len(questions) // min(QUESTIONS, len(questions))] for at in range(min(QUESTIONS, len(questions)))]
    strategy, steps = config.strategy, config.steps
    if config.replay:
        chains, lines = read_chains(config.replay), "replayed"
        steps = max(steps, *(len(chain.lines) for chain in chains))
    elif config.teacher.partition(":")[0] == "symbolic":
        chains, lines = [], "the symbolic teacher's"
    else:
        chains, lines, strategy = [_made(question, index, steps) for question in asked], "made of the gold passages", ircot.NAME
    exemplars = read_exemplars(config.exemplars, strategy_named(strategy)) if config.exemplars else ()
    path = folder / "journal.jsonl"
    with Journal(path) as journal:
        context = Context(model=teacher_of(chains) if chains else open_model(config.teacher), retriever=index, strategy=strategy, k=config.k,
                          steps=steps, exemplars=exemplars, journal=journal, recipe="rehearsal")
        made = answer_all(asked, context, concurrency=config.concurrency)
    right = sum(best(em, one.answer, one.question.answers) == 1 for one in made if one.question.answers)
    return Rehearsed(path, len(made), sum(one.stop == "error" for one in made), right, lines, strategy)


def _made(question: Question, index: IndexRetriever | RemoteRetriever, steps: int) -> Chain:
    """A line for every step of the budget, the gold passages in turn; where none is known, of what the question finds."""
    gold = [passage for id in question.supporting_ids if (passage := index.find(id))]
    read = gold or [hit.passage for hit in index.search(question.text, 1)]
    said = [_sentence(passage.text) for passage in read] or [question.text]
    answer = question.answers[0] if question.answers else "unknown"
    lines = [said[step % len(said)] for step in range(steps)]
    return Chain(question=question, lines=(*lines[:-1], f"{lines[-1]} {ircot.CONCLUSION} {answer}."))


def _sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return " ".join((found[0] if found else text).split()[:LINE])
