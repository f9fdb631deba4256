"""How each data set judges an answer, by the name of the data set: its published rules for EM and F1, and the other names that
2WikiMultiHopQA accepts. In: texts, questions; out: judgements, questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from steper_agent.errors import DataError
from steper_agent.records import Question
from steper_agent.retrieval.sources.files import Row, rows
from steper_agent.retrieval.sources.normal import clean
from training.scores.metrics import HOTPOTQA, Rules, acc, em, f1, normalise, overlap

DataSet = Literal["hotpotqa", "2wiki", "musique", "bamboogle"]


def squad_f1(prediction: str, answer: str) -> float:
    """F1 as SQuAD 2.0 and MuSiQue have it: `yes` is a token like any other, and two texts with no token left agree: 1."""
    said, gold = normalise(prediction).split(), normalise(answer).split()
    return overlap(said, gold) if said and gold else float(said == gold)


def cover_em(prediction: str, answer: str) -> float:
    """1 if the answer stands in the prediction letter by letter, both normalised: `no` is in `Nolan`, and nothing is in anything."""
    return float(normalise(answer) in normalise(prediction))


RULES: dict[DataSet, Rules] = {
    "hotpotqa": HOTPOTQA,
    "2wiki": Rules("2wiki-v1.1: em, f1 as 2wikimultihop_evaluate_v1.1.py, aliases only where --aliases gave them; acc as hotpotqa-v1", em, f1, acc),
    "musique": Rules("musique-v1: em, f1 as metrics/answer.py of MuSiQue (SQuAD 2.0), the best over aliases; acc as hotpotqa-v1", em, squad_f1, acc),
    "bamboogle": Rules("bamboogle: no script is published; em, f1 as hotpotqa-v1; acc = cover-EM, the normalised answer is a substring", em, f1, cover_em),
}


def with_aliases(questions: Sequence[Question], path: Path) -> list[Question]:
    """The questions, each also accepting the aliases and demonyms of the entity that is its answer, its own answer first.

    `path` is 2WikiMultiHopQA's `id_aliases.json`: lines of {"Q_id", "aliases", "demonyms"}. The entity is the question's `answer_id`.

    Raises:
        DataError: the file is broken, or no question names the entity that answers it.
    """
    wanted = {str(entity) for question in questions if (entity := question.meta.get("answer_id"))}
    if not wanted:
        raise DataError("no question names the entity that answers it, so no alias can be found", where=path,
                        fix='give questions with "answer_id", as version 1.1 of 2WikiMultiHopQA has it, or leave out --aliases')
    names: dict[str, tuple[str, ...]] = {}
    for row in rows(path):
        if str(row.value.get("Q_id")) in wanted:
            names[str(row.value["Q_id"])] = (*_names(row, "aliases"), *_names(row, "demonyms"))
    return [_also(question, names.get(str(question.meta.get("answer_id")), ())) for question in questions]


def _also(question: Question, names: Sequence[str]) -> Question:
    return question.model_copy(update={"answers": tuple(dict.fromkeys([*question.answers, *names]))}) if names else question


def _names(row: Row, key: str) -> list[str]:
    found = row.value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DataError(f"`{key}` is not a list of names", where=row, fix='each line: {"Q_id": …, "aliases": [name, …], "demonyms": [name, …]}')
    return sorted(map(clean, found))
