"""Readers: what each format becomes, and what each mistake says."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.errors import ConfigError, DataError
from steper_agent.records import Question
from steper_agent.retrieval import files
from steper_agent.retrieval.corpus import read_corpus, read_passages, read_questions
from steper_agent.retrieval.folder import chunks
from tests.steper_agent.retrieval.shelves import DATA, HOTPOT, MUSIQUE, PASSAGES, write_json, write_lines


@settings(deadline=None)
@given(st.text(alphabet="ab. \n", max_size=300), st.integers(min_value=1, max_value=50))
def test_chunking_keeps_every_word_in_order_and_the_stated_size(text: str, size: int) -> None:
    pieces = list(chunks(text, size))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= size for piece in pieces)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_a_json_array_reads_the_same_whatever_the_size_of_a_read(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    values = [{"text": 'a ] } \\ " ,', "n": n, "deep": [[{}], "ü"]} for n in range(5)]
    path = write_json(tmp_path / "x.json", values)
    assert [row.value for row in files.rows(path)] == values
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(lines[row.line - 1].strip() == "{" for row in files.rows(path))


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


def test_text_is_nfc_and_a_lone_surrogate_is_harmless(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Málaga")
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "x", "title": decomposed, "text": "a\ud800é"}), encoding="utf-8")
    (passage,) = read_passages(path)
    assert passage.title == "Málaga"
    assert passage.text == "a?é"


def test_a_folder_becomes_passages_named_by_path_and_number(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.md").write_text("intro\n\n# The One\n\nbody\n", encoding="utf-8")
    (tmp_path / "two.txt").write_text(f"{'a' * 30}\n\n{'b' * 30}\n\n{'c' * 5}", encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("no", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\xff")
    found = [(passage.id, passage.title, len(passage.text)) for passage in read_passages(tmp_path, chunk_chars=40)]
    assert found == [("deep/one.md#0", "The One", 22), ("two.txt#0", "two", 30), ("two.txt#1", "two", 37)]


def test_several_sources_are_one_corpus_and_shared_paragraphs_count_once(tmp_path: Path) -> None:
    one = write_json(tmp_path / "one.json", [HOTPOT])
    two = write_json(tmp_path / "two.json", [HOTPOT])
    assert list(read_corpus([one, two])) == list(read_passages(one))


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", [*PASSAGES, PASSAGES[1]])
    with pytest.raises(DataError, match=r"'b' occurs twice[^$]*p\.jsonl:2 and [^$]*p\.jsonl:5"):
        list(read_passages(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "b", "te\n', r"broken JSON[^$]*bad:2"),
        ('[{"id": "a", "text": "x"},\n{"id": "b",\n "text" "x"}]', r"broken JSON[^$]*bad:3"),
        ('[{"id": "a", "text": "x"},\n', r"broken JSON[^$]*bad:2"),
        ("[1]", r"expected a JSON object, found int[^$]*bad:1"),
        ("\n\n", "corpus is empty"),
        ("[]", "corpus is empty"),
        ("id,text\n1,x", r"not a format we read[^$]*bad:1"),
        ('{"id": "a", "title": "x"}', r"no text[^$]*bad:1"),
        ('{"title": "t", "text": "x"}', r"no id[^$]*bad:1"),
        ('{"id": "a", "title": "", "text": " "}', r"blank[^$]*bad:1"),
        ('{"id": "a", "question": "who?"}', r"a question[^$]*bad:1"),
        ('{"id": "a", "question": "who?", "paragraphs": [{"title": 1}]}', r"malformed[^$]*bad:1"),
        ('{"id": "a", "question": "who?", "context": [["t"]]}', r"malformed[^$]*bad:1"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_bad_corpus_is_one_clear_error(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        list(read_passages(path))


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


def test_missing_sources_and_empty_folders_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_passages(tmp_path / "nothing"))
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path)
    with pytest.raises(DataError, match="empty"):
        list(read_passages(tmp_path))
    with pytest.raises(ConfigError, match="chunk_chars"):
        list(read_passages(tmp_path, chunk_chars=0))


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
