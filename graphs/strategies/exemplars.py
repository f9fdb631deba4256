"""Worked examples from a file, shown before the question in the file's order, so that equal files make equal prompts.

    {"question": …, "steps": [{"query": …, "passages": [{"title": …, "text": …}], "rationale": …}], "answer": …}

One a line. A step without a query gets IRCoT's: the question first, then the last rationale.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from graphs.strategies.reading import find_answer, one_line, unconcluded
from graphs.strategies.strategy import Chain, Strategy
from steper_agent.errors import DataError
from steper_agent.records import Hit, Passage, Record, Step
from steper_agent.retrieval.sources.files import written_lines

CURE = 'each line: {"question": …, "steps": [{"query": …, "passages": [{"title": …, "text": …}], "rationale": …}], "answer": …}'


class ShownPassage(Record):
    title: str = ""
    text: str


class ShownStep(Record):
    query: str = ""
    passages: tuple[ShownPassage, ...] = ()
    rationale: str


class Exemplar(Record):
    question: str
    steps: tuple[ShownStep, ...]
    answer: str
    opening: str = ""


def read_exemplars(path: Path, strategy: Strategy) -> tuple[Chain, ...]:
    """Every exemplar of a file, its last step ending in the strategy's own words.

    Raises:
        DataError: the file cannot be read, is empty, or a line (named by its number) is no exemplar.
    """
    lines = written_lines(path, "exemplar", flag="--exemplars", cure=CURE)
    return tuple(_chain(line, where, strategy) for line, where in lines)


def _chain(line: str, where: str, strategy: Strategy) -> Chain:
    try:
        shown = Exemplar.model_validate_json(line)
    except ValidationError as bad:
        raise DataError(f"not an exemplar: {bad.errors()[0]['msg']}", where=where, fix=CURE) from bad
    if not shown.steps or not shown.answer.strip() or not all(step.rationale.strip() for step in shown.steps):
        raise DataError("an exemplar without steps, a rationale or an answer", where=where, fix=CURE)
    query, steps = shown.question, list[Step]()
    for number, step in enumerate(shown.steps):
        hits = tuple(
            Hit(passage=Passage(id=f"{number}-{place}", title=passage.title, text=passage.text), score=0.0)
            for place, passage in enumerate(step.passages)
        )
        rationale = one_line(step.rationale)
        steps.append(Step(query=one_line(step.query or query), hits=hits, rationale=rationale))
        query = rationale
    steps[-1] = steps[-1].model_copy(update={"rationale": _concluded(steps[-1].rationale, shown.answer, strategy)})
    return Chain(shown.question, one_line(shown.opening), tuple(steps), answer=one_line(shown.answer))


def _concluded(rationale: str, answer: str, strategy: Strategy) -> str:
    said = unconcluded(rationale) if find_answer(rationale) else rationale
    return f"{said} {strategy.CONCLUSION} {one_line(answer)}.".strip()
