"""Questions: what each format becomes, and what each mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent.errors import DataError
from steper_agent.records import Question
from steper_agent.retrieval.sources.corpus import read_passages
from steper_agent.retrieval.sources.questions import read_questions
from tests.steper_agent.retrieval.shelves import DATA, HOTPOT, MUSIQUE, write_json, write_lines
from tests.steper_agent.retrieval.sources.made import COMPRESS, parquet_of, write


def test_hotpotqa_questions_support_passages_of_their_own_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "hotpot.json", [HOTPOT, {**HOTPOT, "_id": "h2"}])
    passages = {passage.id: passage for passage in read_passages(path)}
    first, second = read_questions(path)
    assert len(passages) == 3
    assert first.supporting_ids == second.supporting_ids
    assert [passages[found].text for found in first.supporting_ids] == [
        "Charles Babbage designed the engine. He lived in London.",
        "London is also a town in Ohio. It is small. It has a fair.",
    ]
    assert (first.id, first.text, first.answers) == ("h1", HOTPOT["question"], ("London",))
    assert first.meta["type"] == "bridge"


def test_a_support_that_is_not_among_the_paragraphs_is_said_so(tmp_path: Path) -> None:
    path = write_json(tmp_path / "hotpot.json", [{**HOTPOT, "supporting_facts": [["Paris", 0]]}])
    (question,) = read_questions(path)
    assert question.supporting_ids == ()
    assert question.meta["missing_supports"] == ["Paris"]


def test_musique_marks_its_supports_itself_and_brings_aliases(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "musique.jsonl", [MUSIQUE])
    passages = {passage.id: passage for passage in read_passages(path)}
    (question,) = read_questions(path)
    assert [passages[found].text for found in question.supporting_ids] == ["Ann wrote it."]
    assert question.answers == ("Bob", "Robert")


def test_our_own_questions_keep_everything_else_as_meta(tmp_path: Path) -> None:
    line = {"id": 7, "question": "Who?", "answer": "Ada", "answers": ["Ada", "A."], "supporting_ids": ["a"], "hops": 2}
    (question,) = read_questions(write_lines(tmp_path / "q.jsonl", [line]), need_answers=True)
    assert question.model_dump() == {
        "id": "7",
        "text": "Who?",
        "answers": ("Ada", "A."),
        "supporting_ids": ("a",),
        "meta": {"hops": 2},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "question": "who?"}', r"'a' has no answer[^$]*bad:1"),
        ('{"id": "a", "question": "who?", "answer": "  "}', "has no answer"),
        ('{"id": "a", "question": "who?", "answer": 3}', r"not text[^$]*bad:1"),
        ('{"id": "a", "question": "", "answer": "x"}', r"no question here[^$]*bad:1"),
        ('{"id": "a", "title": "t", "text": "x"}', "no question here"),
        ('{"id": "a", "question": "w", "answer": "x"}\n' * 2, r"occurs twice[^$]*bad:1 and [^$]*bad:2"),
        ("", "no questions"),
    ],
)
def test_bad_questions_are_one_clear_error(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_questions(path, need_answers=True)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "questions"),
    [
        ("hotpotqa_train_sample.json", 100),
        ("2wikimultihopqa_dev_sample.json", 76),
        ("musique_ans_train_sample.jsonl", 100),
    ],
)
def test_every_support_of_a_real_file_is_among_its_passages(name: str, questions: int) -> None:
    ids = {passage.id for passage in read_passages(DATA / "native" / name)}
    found = read_questions(DATA / "native" / name, need_answers=True)
    assert len(found) == questions
    assert all(question.supporting_ids and set(question.supporting_ids) <= ids for question in found)


def test_a_question_survives_being_written_and_read(tmp_path: Path) -> None:
    question = Question(id="q", text="Who?", answers=("Ann",), supporting_ids=("p",), meta={"type": "chain", "hops": 2})
    (tmp_path / "q.jsonl").write_text(question.model_dump_json() + "\n")
    assert read_questions(tmp_path / "q.jsonl") == [question]


def test_a_question_without_a_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path)


@pytest.mark.parametrize("compress", COMPRESS)
def test_a_table_of_questions_numbers_those_without_an_id(compress: str, tmp_path: Path) -> None:
    table = 'Question,Answer\nWho?,Ada\n"Where, then?","London"\n'
    first, second = read_questions(write(tmp_path / "bamboogle", COMPRESS[compress](table.encode())), need_answers=True)
    assert (first.id, first.text, first.answers, first.meta) == ("2", "Who?", ("Ada",), {})
    assert (second.id, second.text, second.answers) == ("3", "Where, then?", ("London",))


def test_answers_may_be_a_list_in_any_format(tmp_path: Path) -> None:
    table = write(tmp_path / "a", b'id\tquestion\tanswers\nq\tWho?\t"[""Ada"", ""A.""]"\nr\tWho?\t[unknown\n')
    columns = write(tmp_path / "b", parquet_of([{"id": "q", "question": "Who?", "answers": ["Ada", "A."], "hops": 2}]))
    lines = write_lines(tmp_path / "c", [{"id": "q", "question": "Who?", "golden_answers": ["Ada", "A."]}])
    assert [question.answers for question in read_questions(table)] == [("Ada", "A."), ("[unknown",)]
    (question,) = read_questions(columns)
    assert (question.id, question.answers, question.meta) == ("q", ("Ada", "A."), {"hops": 2})
    assert read_questions(lines)[0].answers == ("Ada", "A.")


def test_hotpotqa_in_columns_is_the_same_as_hotpotqa_in_records(tmp_path: Path) -> None:
    titles, sentences = zip(*HOTPOT["context"], strict=True)
    facts = {
        "title": [title for title, _ in HOTPOT["supporting_facts"]],
        "sent_id": [n for _, n in HOTPOT["supporting_facts"]],
    }
    value = {**HOTPOT, "context": {"title": titles, "sentences": sentences}, "supporting_facts": facts}
    columns = write(tmp_path / "hotpot.parquet", parquet_of([value]))
    records = write_json(tmp_path / "hotpot.json", [HOTPOT])
    assert list(read_passages(columns)) == list(read_passages(records))
    (one,), (other,) = read_questions(columns), read_questions(records)
    assert one.supporting_ids == other.supporting_ids
    assert one.text == other.text
