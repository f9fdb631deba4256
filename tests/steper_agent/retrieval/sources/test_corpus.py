"""Readers: what each format becomes, and what each mistake says."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from steper_agent.errors import DataError, DependencyError
from steper_agent.records import Passage
from steper_agent.retrieval.sources import streams
from steper_agent.retrieval.sources.chunking import Chunking
from steper_agent.retrieval.sources.corpus import read_corpus, read_passages
from steper_agent.retrieval.sources.tally import Skipped, Tally
from tests.steper_agent.retrieval.shelves import HOTPOT, MUSIQUE, PASSAGES, write_json, write_lines
from tests.steper_agent.retrieval.sources.made import (
    COMPRESS,
    FORMATS,
    FORMS,
    docx_of,
    lines_of,
    parquet_of,
    pdf_of,
    write,
)


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
    found = [(passage.id, passage.title, len(passage.text)) for passage in read_passages(tmp_path, Chunking(chars=40))]
    assert found == [("deep/one.md#0", "The One", 22), ("two.txt#0", "two", 30), ("two.txt#1", "two", 37)]


def test_several_sources_are_one_corpus_and_shared_paragraphs_count_once(tmp_path: Path) -> None:
    one = write_json(tmp_path / "one.json", [HOTPOT])
    two = write_json(tmp_path / "two.json", [HOTPOT])
    assert list(read_corpus([one, two])) == list(read_passages(one))


def test_a_paragraph_that_a_question_lists_twice_counts_once(tmp_path: Path) -> None:
    path = write_json(tmp_path / "twice.json", [{**HOTPOT, "context": HOTPOT["context"] * 2}])
    tally = Tally()
    assert len({passage.id for passage in read_passages(path, tally=tally)}) == tally.passages == tally.duplicates == 3


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
        ("some prose, and more", r"not a format we read[^$]*bad:1"),
        ("id,title,question mark,passages\n1,t,x,y", r"not a format we read[^$]*bad:1"),
        ("id,title,contents,question\n1,t,x,y", r"a question[^$]*bad:2"),
        ("text,title\nx,t", r"no id[^$]*bad:2"),
        ('{"id": "a", "title": "x"}', r"no text: it has id, title\n[^$]*bad:1"),
        ('{"id": "a", "text": ["x", ["y"]]}', r"no text[^$]*bad:1"),
        ('{"title": "t", "text": "x"}', r"no id[^$]*bad:1"),
        ('{"id": "a", "title": "", "text": " "}', r"blank[^$]*bad:1"),
        ('{"id": "a", "question": "who?"}', r"a question[^$]*bad:1"),
        ('{"id": "a", "question": "who?", "paragraphs": [{"title": 1}]}', r"malformed[^$]*bad:1"),
        ('{"id": "a", "question": "who?", "context": [["t"]]}', r"malformed[^$]*bad:1"),
        (b"\xff\xfe", r"not UTF-8[^$]*bad:1"),
    ],
)
def test_a_bad_corpus_is_one_clear_error(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        list(read_passages(path))


def test_missing_sources_and_empty_folders_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_passages(tmp_path / "nothing"))
    with pytest.raises(DataError, match="empty"):
        list(read_passages(tmp_path))


@pytest.mark.parametrize(("form", "compress"), FORMS)
def test_every_format_is_the_same_corpus_compressed_or_not(form: str, compress: str, tmp_path: Path) -> None:
    path = write(tmp_path / "data", COMPRESS[compress](FORMATS[form]()))
    assert list(read_passages(path)) == [Passage.model_validate(one) for one in PASSAGES]


def test_sentences_are_joined_as_they_stand_and_paragraphs_apart(tmp_path: Path) -> None:
    sentences = {"id": "1", "title": "T", "text": ["One.", " Two."], "url": "x"}
    paragraphs = {"id": "2", "title": "T", "text": [["One.", " Two."], ["Three."]]}
    path = write(tmp_path / "AA" / "wiki_00.bz2", COMPRESS["bz2"](lines_of([sentences, paragraphs])))
    expected = ["One. Two.", "One. Two.\n\nThree."]
    assert [passage.text for passage in read_passages(path)] == expected
    assert [passage.text for passage in read_passages(tmp_path)] == expected


def test_a_folder_of_records_is_read_in_order_of_path_and_one_of_documents_leaves_records_out(tmp_path: Path) -> None:
    write(tmp_path / "b" / "1.parquet", FORMATS["parquet"]())
    write(tmp_path / "a.jsonl.gz", COMPRESS["gz"](lines_of([{"id": "z", "text": "first"}])))
    tally = Tally()
    assert [passage.id for passage in read_passages(tmp_path, tally=tally)] == ["z", "a", "b", "c", "d"]
    assert tally.ignored == {}
    write(tmp_path / "note.md", b"A note.")
    tally = Tally()
    assert [passage.id for passage in read_passages(tmp_path, tally=tally)] == ["note.md#0"]
    assert tally.describe()[1:] == [
        "files of other kinds, ignored: 1 .gz, 1 .parquet",
        f"records beside documents are indexed by their own name: steper index build {tmp_path / 'a.jsonl.gz'}",
    ]


def test_documents_of_every_kind_are_passages_of_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.pdf", pdf_of(["One. Two.", "", "Three."], "Paper"))
    write(tmp_path / "b.docx", docx_of("Letter", ["Dear Ada."], [["x"]]))
    write(tmp_path / "c.html.zst", COMPRESS["zst"](b"<title>Page</title><p>Body."))
    write(tmp_path / "d.png", b"\x89PNG")
    write(tmp_path / "e.pdf", pdf_of([""]))
    tally = Tally()
    found = [
        (passage.id, passage.title, passage.text) for passage in read_passages(tmp_path, Chunking(chars=30), tally)
    ]
    assert found == [
        ("a.pdf#0", "Paper", "One. Two."),
        ("a.pdf#1", "Paper", "Three."),
        ("b.docx#0", "Letter", "Letter\n\nDear Ada.\n\nx"),
        ("c.html.zst#0", "Page", "Body."),
    ]
    assert tally.describe() == [
        "passages: 4",
        "files of other kinds, ignored: 1 .png",
        "documents without text (scanned pages need OCR first): 1",
    ]


def test_a_tally_counts_what_was_there_before_and_what_was_left_out(tmp_path: Path) -> None:
    one = write_json(tmp_path / "one.json", [HOTPOT, {**HOTPOT, "_id": "h2"}])
    bad = [{"id": "a"}, {"id": "b", "text": "x"}, {"id": "c"}, {"id": "b", "text": "y"}, {"id": "d", "text": " "}]
    two = write_lines(tmp_path / "two.jsonl", bad)
    tally = Tally(on_bad="skip")
    assert len(list(read_corpus([one, two], tally=tally))) == tally.passages == 4
    assert tally.duplicates == 3
    assert tally.skipped == {
        "a passage has no text": Skipped(first=f"{two}:1", count=2),
        "a passage id occurs twice": Skipped(first=f"{two}:2 and {two}:4"),
        "a passage is blank": Skipped(first=f"{two}:5"),
    }
    assert tally.describe()[:3] == [
        "passages: 4",
        "left out, as the same title and text was there before: 3",
        f"left out, a passage has no text: 2, first at {two}:1",
    ]


def test_of_a_source_of_which_nothing_is_left_what_was_wrong_first_is_told(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", [{"id": "a"}, {"id": "b", "text": "x"}])
    two = write_lines(tmp_path / "two.jsonl", [{"id": "1", "title": "Emma", "content": "…"}, {"id": "c", "text": " "}])
    with pytest.raises(DataError, match="it has id, title, content") as caught:
        list(read_corpus([one, two], tally=Tally(on_bad="skip")))
    assert str(caught.value.where) == f"{two}:1"
    with pytest.raises(DataError, match="corpus is empty"):
        list(read_corpus([one, write(tmp_path / "none", b"")], tally=Tally(on_bad="skip")))


@pytest.mark.parametrize("page", [b"", b"<!-- moved -->", b"<!DOCTYPE html>\n"])
def test_a_page_without_text_is_counted_as_blank(page: bytes, tmp_path: Path) -> None:
    write(tmp_path / "good.txt", b"Good.")
    write(tmp_path / "page.html", page)
    tally = Tally()
    assert [passage.id for passage in read_passages(tmp_path, tally=tally)] == ["good.txt#0"]
    assert tally.blank == 1


BROKEN_FILES = {
    "broken.pdf": b"%PDF-1.4\n",
    "broken.docx": b"PK",
    "latin.txt": b"\xff",
    "latin.html": b"<p>\xff",
    "torn.md.gz": COMPRESS["gz"](b"# Title\n\n" + bytes(range(256)) * 9)[:-9],
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_document_stops_a_folder_or_is_counted_and_left_out(name: str, tmp_path: Path) -> None:
    write(tmp_path / "good.txt", b"Good.")
    path = write(tmp_path / name, BROKEN_FILES[name])
    with pytest.raises(DataError, match=name):
        list(read_passages(tmp_path))
    tally = Tally(on_bad="skip")
    assert [passage.id for passage in read_passages(tmp_path, tally=tally)] == ["good.txt#0"]
    ((_, skipped),) = tally.skipped.items()
    assert skipped.count == 1
    assert skipped.first.startswith(str(path))
    with pytest.raises(DataError, match=name):
        list(read_passages(path, tally=Tally(on_bad="skip")))


TORN_FILES = {
    "torn.jsonl.gz": COMPRESS["gz"](lines_of(PASSAGES))[:-9],
    "torn.jsonl.zst": COMPRESS["zst"](lines_of(PASSAGES))[:-9],
    "torn.parquet": FORMATS["parquet"]()[:-9],
    "torn.json": FORMATS["array"]()[:-9],
    "prose.csv": b"id,title,text\n\xff",
}


@pytest.mark.parametrize("name", TORN_FILES)
def test_a_file_that_cannot_be_gone_on_with_stops_unless_it_is_one_of_a_folder(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, TORN_FILES[name])
    with pytest.raises(DataError, match=name):
        list(read_passages(path, tally=Tally(on_bad="skip")))
    write(tmp_path / "whole.jsonl", lines_of([{"id": "w", "text": "Whole."}]))
    tally = Tally(on_bad="skip")
    assert "w" in [passage.id for passage in read_passages(tmp_path, tally=tally)]
    ((_, skipped),) = tally.skipped.items()
    assert skipped.first.startswith(str(path))


def test_a_bomb_in_a_folder_is_left_out_like_any_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FLOOR", 1 << 20)
    write(tmp_path / "a.txt", b"Good.")
    write(tmp_path / "b.txt.zst", COMPRESS["zst"](bytes(30 << 20)))
    tally = Tally(on_bad="skip")
    assert [passage.id for passage in read_passages(tmp_path, tally=tally)] == ["a.txt#0"]
    with pytest.raises(DataError, match="expands to more"):
        list(read_passages(tmp_path))


def test_a_missing_package_stops_even_where_bad_files_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    write(tmp_path / "a.pdf", pdf_of(["x"]))
    with pytest.raises(DependencyError, match="pypdf"):
        list(read_passages(tmp_path, tally=Tally(on_bad="skip")))


def test_ids_and_texts_are_the_same_in_another_process(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "# É\n\nOne. Two.".encode())
    path = write_json(tmp_path / "hotpot.json", [HOTPOT])
    code = (
        "import sys; from pathlib import Path; from steper_agent.retrieval import read_corpus\n"
        "for one in read_corpus([Path(name) for name in sys.argv[1:]]): print(ascii((one.id, one.title, one.text)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.md"), str(path)]
    said = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert said[0].splitlines() == [
        ascii((one.id, one.title, one.text)) for one in read_corpus([tmp_path / "a.md", path])
    ]


def test_columns_that_hold_no_text_are_named(tmp_path: Path) -> None:
    for path in (
        write(tmp_path / "a.csv", b"id,title,body\n1,t,x\n"),
        write(tmp_path / "b.parquet", parquet_of([{"id": "1", "title": "t", "body": "x"}])),
    ):
        with pytest.raises(DataError, match="no column of text among id, title, body"):
            list(read_passages(path))


WHOLE: dict[str, bytes] = {
    "a.pdf": pdf_of(["One.", "Two."], "Paper"),
    "a.docx": docx_of("Letter", ["Dear Ada."], [["x", "y"]]),
    "a.html": b"<title>Page</title><p>One.<table><tr><td>Two.",
    "a.md": "# É\n\nOne. Two.\n".encode(),
    "a.json": json.dumps([HOTPOT, HOTPOT]).encode(),
    "a.jsonl": lines_of([MUSIQUE, MUSIQUE]),
    **{f"b.{compress}": COMPRESS[compress](FORMATS["lines"]()) for compress in COMPRESS},
    **{f"c.{form}": FORMATS[form]() for form in ("csv", "tsv", "parquet")},
}


@pytest.mark.parametrize("name", WHOLE)
def test_whatever_is_damaged_in_a_file_it_is_read_or_one_error_that_names_it(name: str, tmp_path: Path) -> None:
    chance, places = random.Random(name), list[str]()
    for _ in range(60):
        damaged = bytearray(WHOLE[name])
        for _ in range(chance.choice((1, 2, 9))):
            at = chance.randrange(len(damaged) + 1)
            damaged[at : at + chance.choice((0, 1, 20))] = chance.choice(
                (b"", b'"', b"\n{", b"<", b"\x00\xff", b"9999")
            )
        path = write(tmp_path / name, bytes(damaged))
        try:
            list(read_passages(path))
        except DataError as bad:
            places.append(str(bad.where))
    assert all(str(tmp_path / name) in place for place in places)
