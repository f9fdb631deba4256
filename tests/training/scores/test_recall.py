"""Recall of the gold evidence: what one search finds, and what the searches of a gold chain find with as many passages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from steper_agent.errors import DataError, ModelError
from steper_agent.records import Hit, Passage, Question
from steper_agent.retrieval import build_index, open_index
from tests.steper_agent.retrieval.shelves import HashEncoder
from training.evaluate import EvaluateConfig, evaluate_retrieval, main
from training.scores import recall
from training.scores.recall import Chained, interleave, measure


class Shelf:
    """Finds what it is told to, in that order."""

    def __init__(self, found: dict[str, Sequence[str]]) -> None:
        self._found = found
        self.asked: list[int] = []

    def search_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        self.asked.append(len(queries))
        return [tuple(Hit(passage=Passage(id=id, title="", text=id), score=1.0) for id in self._found[query][:k]) for query in queries]


def question(id: str, supports: Sequence[str], hops: int | None = None) -> Question:
    return Question(id=id, text=id, answers=("x",), supporting_ids=tuple(supports), meta={} if hops is None else {"hops": hops})


def test_recall_is_a_mean_over_questions_and_all_support_counts_whole_ones() -> None:
    index = Shelf({"q1": ["a", "b", "c"], "q2": ["c", "b", "a"]})
    (row,) = measure("r", index, [question("q1", "ab"), question("q2", "ax")], seed=0, tell=lambda _: None)
    assert {k: (one.recall.mean, one.all_support.mean) for k, one in row.depths.items()} == {2: (0.5, 0.5), 5: (0.75, 0.5), 10: (0.75, 0.5)}
    for one in row.depths.values():
        assert one.recall.ci[0] <= one.recall.mean <= one.recall.ci[1]


def test_hops_are_told_apart_where_they_differ() -> None:
    index = Shelf({"q1": ["a"], "q2": ["a"], "q3": ["a"]})
    asked = [question("q1", "a", 2), question("q2", "b", 3), question("q3", "a", 2)]
    rows = measure("r", index, asked, seed=0, tell=lambda _: None)
    assert [(row.questions, row.n, row.depths[2].recall.mean) for row in rows] == [("all", 3, pytest.approx(2 / 3)), ("2 hops", 2, 1.0), ("3 hops", 1, 0.0)]
    assert [row.questions for row in measure("r", index, asked[::2], seed=0, tell=lambda _: None)] == ["all"]


def test_a_chain_and_one_search_are_given_as_many_passages() -> None:
    index = Shelf({"q": ["a", "b", "c", "d"], "line": ["b", "z"]})
    (one,) = interleave("r", index, [Chained(question("q", "az"), ("q", "line"))], 2, seed=0, tell=lambda _: None)
    assert (one.searches, one.passages) == (2, 3), "a passage that both searches find counts once"
    assert (one.one_step.recall.mean, one.chain.recall.mean, one.recall_gain.mean) == (0.5, 1.0, 0.5)
    assert (one.one_step.all_support.mean, one.chain.all_support.mean, one.all_gain.mean) == (0.0, 1.0, 1.0)


def test_searches_are_handed_over_in_blocks_and_told() -> None:
    names = [f"q{number}" for number in range(recall.BLOCK + 3)]
    index, told = Shelf({name: ["a"] for name in names}), list[int]()
    measure("r", index, [question(name, "a") for name in names], seed=0, tell=told.append)
    assert index.asked == told == [recall.BLOCK, 3]


def test_a_search_that_a_provider_fails_is_told_with_the_index() -> None:
    class Unlucky(Shelf):
        def search_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
            raise LookupError(f"{len(queries)} for {k}: too many")

    with pytest.raises(ModelError, match="the search failed: LookupError: 1 for 10: too many") as bad:
        measure("dense", Unlucky({}), [question("a", "x")], seed=1, tell=lambda _: None)
    assert bad.value.where == "dense"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A corpus, a question whose second passage only the first line of its chain leads to, and the chain."""
    passages = [("book", "The book was written by Ada."), ("ada", "Ada was born in Rome."), *((f"x{n}", f"The book number {n} was sold in Oslo.") for n in range(9))]
    write(tmp_path / "corpus.jsonl", [{"id": id, "title": id, "text": text} for id, text in passages])
    write(tmp_path / "questions.jsonl", [{"id": "1", "question": "Where was the one who wrote the book born?", "answer": "Rome", "supporting_ids": ["book", "ada"]}])
    write(tmp_path / "chains.jsonl", [{"id": "1", "question": "Where was the one who wrote the book born?", "answer": "Rome",
                                       "reasoning_steps": ["The book was written by Ada.", "Ada was born in Rome. So the answer is: Rome."]}])
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "words")
    return tmp_path


def write(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def config(bench: Path, **settings: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate({"index": bench / "words", "questions": bench / "questions.jsonl", "retrieval_only": True, **settings})


def test_gold_chains_lead_on_over_a_real_index(bench: Path) -> None:
    found = evaluate_retrieval(config(bench, chains=bench / "chains.jsonl", k=2))
    assert [row.retriever for row in found.rows] == ["words bm25"]
    (one,) = found.interleaved
    assert one.chain.recall.mean >= one.one_step.recall.mean
    assert one.chain.all_support.mean == 1


def test_both_sides_of_a_hybrid_are_measured_beside_it(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index([bench / "corpus.jsonl"], bench / "both", mode="hybrid", encoder=HashEncoder())
    opened = {bench / "words": open_index(bench / "words"), bench / "both": open_index(bench / "both", HashEncoder())}
    monkeypatch.setattr("steper_agent.retrieval.open_retriever", opened.__getitem__)
    rows = evaluate_retrieval(config(bench, beside=(bench / "both",))).rows
    assert [row.retriever for row in rows] == ["words bm25", "both hybrid", "both bm25", "both dense"]
    assert rows[0].depths == rows[2].depths


def test_indexes_of_one_name_are_told_apart_by_their_paths(bench: Path) -> None:
    build_index([bench / "corpus.jsonl"], bench / "elsewhere" / "words")
    rows = evaluate_retrieval(config(bench, beside=(bench / "elsewhere" / "words", bench / "words"))).rows
    assert [row.retriever for row in rows] == [f"{bench / 'words'} bm25", f"{bench / 'elsewhere' / 'words'} bm25"]


def test_the_table_and_the_file_say_the_same(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--retrieval-only", "--index", str(bench / "words"), "--questions", str(bench / "questions.jsonl"), "--json", str(bench / "found.json")]
    assert main(words) == 0
    (row,) = json.loads((bench / "found.json").read_text())["rows"]
    assert f"{row['depths']['5']['recall']['mean']:.3f} [" in capsys.readouterr().out


def test_chains_of_other_questions_are_refused(bench: Path) -> None:
    write(bench / "others.jsonl", [{"id": "9", "question": "Who?", "answer": "A", "reasoning_steps": ["So the answer is: A."]}])
    with pytest.raises(DataError, match="no chain belongs"):
        evaluate_retrieval(config(bench, chains=bench / "others.jsonl"))
