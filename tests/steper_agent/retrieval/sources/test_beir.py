"""BEIR folders: the corpus as passages, the judged queries as questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steper_agent.errors import DataError
from steper_agent.records import Question
from steper_agent.retrieval.sources.corpus import read_passages
from steper_agent.retrieval.sources.questions import read_questions
from tests.steper_agent.retrieval.sources.made import COMPRESS, lines_of, write

CORPUS = [{"_id": name, "title": f"T{name}", "text": f"Text {name}.", "metadata": {"url": "x"}} for name in "abc"]
QUERIES: list[dict[str, Any]] = [
    {"_id": "1", "text": "Who?", "metadata": {"answer": "Ada", "type": "bridge"}},
    {"_id": "2", "text": "Where?", "metadata": {}},
    {"_id": "3", "text": "Only trained on?"},
]
QRELS = "query-id\tcorpus-id\tscore\n"


def folder_of(root: Path, compress: str = "plain", **qrels: str) -> Path:
    end = "" if compress == "plain" else f".{compress}"
    write(root / f"corpus.jsonl{end}", COMPRESS[compress](lines_of(CORPUS)))
    write(root / f"queries.jsonl{end}", COMPRESS[compress](lines_of(QUERIES)))
    for split, judged in qrels.items():
        write(root / "qrels" / f"{split}.tsv", (QRELS + judged).encode())
    write(root / "README.md", b"# Not a passage")
    return root


@pytest.mark.parametrize("compress", COMPRESS)
def test_its_corpus_is_passages_and_its_judged_queries_are_questions(compress: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, compress, test="2\tb\t1\n1\ta\t1\n1\tc\t1\n1\tb\t0\n", train="3\ta\t1\n")
    assert [passage.id for passage in read_passages(folder)] == ["a", "b", "c"]
    first, second = read_questions(folder)
    assert (first.answers, first.supporting_ids, first.meta["type"]) == (("Ada",), ("a", "c"), "bridge")
    assert first.meta["grades"] == {"a": 1, "c": 1, "b": 0}
    assert second == Question(id="2", text="Where?", supporting_ids=("b",))


@pytest.mark.parametrize(
    ("qrels", "ids"),
    [
        ({"train": "3\ta\t1\n", "dev": "2\ta\t1\n"}, ["2"]),
        ({"train": "3\ta\t1\n"}, ["3"]),
        ({"test": "1\ta\t1\n", "dev": "2\ta\t1\n"}, ["1"]),
    ],
)
def test_the_test_judgements_come_before_the_others(qrels: dict[str, str], ids: list[str], tmp_path: Path) -> None:
    assert [question.id for question in read_questions(folder_of(tmp_path, **qrels))] == ids


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ({}, "0 files of judgements"),
        ({"train": "1\ta\t1\n", "other": "2\ta\t1\n"}, "2 files of judgements"),
        ({"test": "1\ta\n"}, r"not a judgement[^$]*test\.tsv:2\n"),
        ({"test": "1\ta\t1\n1\ta\tgood\n"}, r"not a judgement[^$]*test\.tsv:3\n"),
        ({"test": "1\ta\t1\n9\ta\t1\n"}, r"'9' is judged and not among the queries[^$]*test\.tsv:3\n"),
    ],
)
def test_a_broken_folder_is_one_clear_error(qrels: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_questions(folder_of(tmp_path, **qrels))


def test_a_query_without_text_is_one_clear_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, test="1\ta\t1\n")
    write(folder / "queries.jsonl", b'{"_id": "1", "text": " "}\n')
    with pytest.raises(DataError, match=r"no text[^$]*queries\.jsonl:1\n"):
        read_questions(folder)
