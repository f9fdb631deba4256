"""Journals made by hand, as the graph would have written them, for tests that need no graph."""

from __future__ import annotations

import random
from pathlib import Path

from steper_agent.journal import Journal
from steper_agent.records import Finished, Hit, NodeRecord, Passage, Question, Stop

WORDS = ("river", "town", "book", "queen", "mill", "north", "old", "glass", "bell", "stone")


def question(number: int, *, steps: int) -> Question:
    rng = random.Random(number)
    return Question(id=f"q{number}", text=f"Which {rng.choice(WORDS)} is near the {rng.choice(WORDS)}?",
                    answers=(f"the {rng.choice(WORDS)}",), supporting_ids=tuple(f"p{number}-{s}-0" for s in range(steps)))


def passages(number: int, step: int, count: int) -> list[Passage]:
    rng = random.Random(f"{number}:{step}")
    return [Passage(id=f"p{number}-{step}-{i}", title=rng.choice(WORDS), text=f"The {' '.join(rng.choices(WORDS, k=6))}.")
            for i in range(count)]


def add_run(
    journal: Journal, number: int, *, steps: int, stop: Stop = "answered", right: bool = True, k: int = 2, recipe: str = "recipe"
) -> None:  # fmt: skip
    """One finished run of `steps` steps with `k` new passages each."""
    asked = question(number, steps=steps)
    answer = asked.answers[0] if right else "something else"
    lines = [f"The {WORDS[(number + s) % len(WORDS)]} is here." for s in range(steps)]
    lines[-1] += f" So the answer is: {answer}."
    query = asked.text
    for step, line in enumerate(lines, start=1):
        hits = tuple(Hit(passage=passage, score=1.0) for passage in passages(number, step - 1, k))
        for node, output, found in (("form_query", query, ()), ("retrieve", "", hits), ("reason", line, ())):
            journal.append(NodeRecord.model_validate({
                "run": asked.id, "question_id": asked.id, "node": node, "step": step, "key": f"{asked.id}{node}{step}",
                "input": query, "output": output, "hits": found, "seconds": 0.0, "outcome": "ok",
            }))  # fmt: skip
        query = line
    journal.append(Finished(run=asked.id, question=asked, strategy="ircot", answer=answer, stop=stop, model="teacher",
                            recipe=recipe, seconds=0.0))


def make_journal(path: Path, *, count: int = 8, first: int = 0, recipe: str = "recipe") -> Path:
    """`count` right trajectories of one to four steps, numbered from `first`."""
    with Journal(path) as journal:
        for number in range(first, first + count):
            add_run(journal, number, steps=1 + number % 4, recipe=recipe)
    return path
