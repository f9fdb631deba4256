"""Trajectories made by hand, of a question with a chain of two hops: who wrote Emma, and where was she born."""

from __future__ import annotations

from collections.abc import Sequence

from steper_agent.records import Hit, Passage, Question, Step, Stop, Trajectory
from training.attribution.records import Gold, Link

EMMA = Passage(id="emma", title="Emma (novel)", text="Emma is a novel by Jane Austen, published in 1815.")
AUSTEN = Passage(id="austen", title="Jane Austen", text="Jane Austen was an English novelist born in Steventon.")
OTHER = Passage(id="other", title="Cassandra Brook", text="Cassandra Brook wrote of Bath.")
QUESTION = Question(id="q", text="Where was the author of Emma born?", answers=("Steventon",), supporting_ids=("emma", "austen"))
CHAIN = Gold(
    links=(Link(subject="Emma", relation="author", objects=("Jane Austen",), passages=("emma",)),
           Link(subject="Jane Austen", relation="place of birth", objects=("Steventon",), passages=("austen",))),
    answer="Steventon", certainty="chain",
)  # fmt: skip
CLOSED = Gold(
    links=(Link(subject="Emma Novel", relation="author", objects=("Jane Austen",), passages=("emma",)),
           Link(subject="Jane Austen", relation="birthplace", objects=("Steventon Green",), passages=("austen",))),
    answer="Steventon Green", certainty="chain", closed=True,
)  # fmt: skip
"""The same in a micro-world's language."""

WROTE = "Emma was written by Jane Austen."
BORN = "She was born in Steventon."
CONCLUDED = f"{BORN} So the answer is: Steventon."


def step(query: str, passages: Sequence[Passage], line: str) -> Step:
    return Step(query=query, hits=tuple(Hit(passage=passage, score=1.0) for passage in passages), rationale=line)


FIRST = step(QUESTION.text, [EMMA, OTHER], WROTE)


def ran(*steps: Step, answer: str, stop: Stop = "answered", question: Question = QUESTION, strategy: str = "ircot", model: str = "m") -> Trajectory:
    return Trajectory(question=question, strategy=strategy, steps=steps, answer=answer, stop=stop, model=model, recipe="r")


RIGHT = ran(FIRST, step(WROTE, [AUSTEN], CONCLUDED), answer="Steventon")
