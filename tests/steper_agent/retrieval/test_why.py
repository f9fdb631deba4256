"""Why a passage was found: ranks that agree with the searches, words as the index sees them, and the file it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steper_agent.errors import StepERError
from steper_agent.records import Passage
from steper_agent.retrieval import IndexRetriever, IndexSettings, add_passages, build_index, open_index, why
from steper_agent.retrieval.ranking import cut
from steper_agent.retrieval.sources.chunking import DEFAULT, Chunking
from steper_agent.retrieval.sources.files import rows
from steper_agent.retrieval.sources.tally import Tally
from steper_agent.retrieval.terms import ENGLISH
from steper_agent.retrieval.why import Why, explain
from tests.steper_agent.retrieval.shelves import HOTPOT, MUSIQUE, PASSAGES, HashEncoder, write_json, write_lines
from tests.steper_agent.retrieval.sources.made import COMPRESS, FORMATS, lines_of, write

MODES: list[tuple[Any, Any]] = [("bm25", None), ("dense", HashEncoder()), ("hybrid", HashEncoder())]
QUERIES = ["Who designed the analytical engines in London?", "malaga", "Ada", "zzz", " "]
TEXT = """\
# Engines

Ada wrote a program.

\tIt was the first.
It ran on an engine
that nobody had built.

Engines

Ada wrote a program. She was in London. Then she was in Málaga. There she stayed for a very long time, as is told elsewhere.
"""


def opened(source: Path, mode: Any = "bm25", encoder: Any = None, chunking: Chunking = DEFAULT) -> IndexRetriever:
    out = source.parent / f"index-{mode}"
    build_index([source], out, mode=mode, encoder=encoder, settings=IndexSettings(chunking=chunking))
    return open_index(out, encoder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "corpus.jsonl", PASSAGES)


@pytest.mark.parametrize(("mode", "encoder"), MODES)
@pytest.mark.parametrize("query", QUERIES)
def test_passages_sorted_by_their_fused_ranks_are_the_retrievers_own_order(
    query: str, mode: Any, encoder: Any, source: Path
) -> None:
    index = opened(source, mode, encoder)
    explained = {one["id"]: explain(index, query, one["id"]) for one in PASSAGES}
    ranked = sorted((why.fused, id) for id, why in explained.items() if why.fused)
    assert [id for _, id in ranked] == [hit.passage.id for hit in index.search(query, 99)]


@pytest.mark.parametrize(("mode", "encoder"), MODES)
@pytest.mark.parametrize("query", QUERIES[:-1])
def test_ranks_agree_with_the_two_searches_run_alone(query: str, mode: Any, encoder: Any, source: Path) -> None:
    index = opened(source, mode, encoder)
    sides = {"lexical": index.lexical, "dense": index.dense}
    for one in PASSAGES:
        why = explain(index, query, one["id"])
        assert why.searches == tuple(name for name, side in sides.items() if side is not None)
        for name, side in sides.items():
            ranked = (
                cut(side.search_many([query], 99)[0], 99, lambda row: index.shelf[row].id) if side is not None else []
            )
            found = [(index.shelf[row].id, score) for row, score in ranked]
            expected = {id: (rank, score) for rank, (id, score) in enumerate(found, start=1)}.get(one["id"])
            standing = getattr(why, name)
            assert (standing and (standing.rank, standing.score)) == expected


def test_a_rank_beyond_what_is_looked_through_is_none_and_says_how_far_that_was(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(why, "LOOKED", 1)
    index = opened(source)
    best, *others = [hit.passage.id for hit in index.search("analytical engine", 9)]
    assert explain(index, "analytical engine", best).lexical
    assert [explain(index, "analytical engine", other).lexical for other in others] == [None] * len(others)


def test_a_passage_the_index_does_not_hold_is_an_error_that_says_so(source: Path) -> None:
    index = opened(source)
    for unknown in ("", "aa", "zz", "\x1b[2J"):
        with pytest.raises(StepERError, match="holds no such passage") as caught:
            explain(index, "engine", unknown)
        assert "\x1b" not in str(caught.value)


def test_words_are_the_same_where_the_index_takes_them_for_the_same(source: Path) -> None:
    index = opened(source)
    why = explain(index, "Who designs ENGINES of the Malaga?", "b")
    assert why.shared == ("designs", "engines")
    assert why.lacking == ("malaga",)
    assert why.words == ("designed", "engine")
    assert explain(index, "malaga", "d").words == ("málaga",)
    assert not set(ENGLISH) & {*why.shared, *why.lacking, *why.words}


@pytest.mark.parametrize(("mode", "encoder"), MODES)
def test_a_shared_word_is_one_that_alone_finds_the_passage(mode: Any, encoder: Any, source: Path) -> None:
    index, lexical = opened(source, mode, encoder), opened(source)
    for one in PASSAGES:
        why = explain(index, QUERIES[0], one["id"])
        finds = {
            word: one["id"] in [hit.passage.id for hit in lexical.search(word, 99)]
            for word in (*why.shared, *why.lacking)
        }
        assert finds == {**dict.fromkeys(why.shared, True), **dict.fromkeys(why.lacking, False)}


def signs(text: str) -> int:
    return len("".join(text.split()))


def line_of(why: Why) -> str:
    return Path(why.place.path).read_text(encoding="utf-8").split("\n")[why.place.line - 1]


def test_a_record_is_found_again_in_its_file_and_line(source: Path) -> None:
    source.write_text("\n\n" + source.read_text(encoding="utf-8"), encoding="utf-8")
    index = opened(source)
    for one in PASSAGES:
        why = explain(index, "engine", one["id"])
        assert (why.place.path, why.place.is_copy) == (str(source), False)
        assert json.loads(line_of(why)) == one


@pytest.mark.parametrize("value", [HOTPOT, MUSIQUE])
def test_a_paragraph_is_found_again_where_its_question_begins(value: dict[str, Any], tmp_path: Path) -> None:
    source = write_json(
        tmp_path / "hotpot.json",
        [{**HOTPOT, "_id": "h0", "context": [["Other", ["Text of another one."]]], "supporting_facts": []}, value],
    )
    index = opened(source)
    for passage in index.shelf:
        why = explain(index, "x", passage.id)
        assert not why.place.is_copy
        lines = source.read_text(encoding="utf-8").split("\n")[why.place.line - 1 :]
        assert lines[0] == " {"
        rest = "\n".join(lines)
        assert (
            json.JSONDecoder().raw_decode(rest.strip())[0]["question"]
            == (HOTPOT if passage.title == "Other" else value)["question"]
        )


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [20, 40, 90, 1000])
def test_a_passage_of_a_text_is_found_again_at_the_line_where_it_begins(size: int, ends: str, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.md").write_text(TEXT, encoding="utf-8", newline=ends)
    (folder / "b.txt").write_text("Another text.", encoding="utf-8")
    index = opened(folder, chunking=Chunking(chars=size))
    before = 0
    for passage in index.shelf:
        why = explain(index, "engine", passage.id)
        assert not why.place.is_copy
        assert passage.text.split("\n")[0] in line_of(why)
        if passage.id.startswith("deep"):
            assert why.place.path == str(folder / "deep" / "a.md")
            # The passages are the text, cut: what stands before one is all the others before it.
            lines = TEXT.split("\n")
            assert signs("".join(lines[: why.place.line - 1])) <= before < signs("".join(lines[: why.place.line]))
            before += signs(passage.text)


@pytest.mark.parametrize("form", FORMATS)
def test_a_record_is_found_again_in_every_format(form: str, tmp_path: Path) -> None:
    source = write(tmp_path / "corpus", FORMATS[form]())
    index = opened(source)
    lines = {row.value["id"]: row.line for row in rows(source)}
    for one in PASSAGES:
        assert explain(index, "engine", one["id"]).place == why.Place(
            path=str(source), line=lines[one["id"]], is_copy=False
        )


def test_a_record_is_found_again_in_a_folder_of_files_beside_broken_ones(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder / "1.jsonl", b'{"id": "x"}\nbroken\n' + lines_of(PASSAGES[:2]))
    write(folder / "2.jsonl.gz", COMPRESS["gz"](lines_of(PASSAGES[2:])))
    build_index([folder], tmp_path / "index", tally=Tally(on_bad="skip"))
    index = open_index(tmp_path / "index")
    places = [explain(index, "engine", one["id"]).place for one in PASSAGES]
    assert [(Path(place.path).name, place.line) for place in places] == [
        ("1.jsonl", 3),
        ("1.jsonl", 4),
        ("2.jsonl.gz", 1),
        ("2.jsonl.gz", 2),
    ]


def test_passages_that_overlap_are_found_where_each_begins(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("First it is.\nSecond it is.\nThird it is.\nFourth it is.\n", encoding="utf-8")
    index = opened(source, chunking=Chunking(chars=31, overlap=14))
    found = [(passage.text.split()[0], explain(index, "it", passage.id).place.line) for passage in index.shelf]
    assert found == [("First", 1), ("Second", 2), ("Third", 3)]


def test_a_document_whose_lines_are_not_its_text_s_is_named_by_the_index_s_own_copy(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    write(folder / "a.html", b"<title>A</title>\n\n<p>An engine.")
    assert explain(opened(folder), "engine", "a.html#0").place.is_copy


def test_the_own_copy_of_a_passage_added_later_is_named_too(source: Path, tmp_path: Path) -> None:
    added = write_lines(tmp_path / "added.jsonl", [{"id": "new", "title": "", "text": "A new engine."}])
    opened(source)
    add_passages(tmp_path / "index-bm25", [added])
    source.unlink()
    added.unlink()
    index = open_index(tmp_path / "index-bm25")
    for name in ("a", "d", "new"):
        explained = explain(index, "engine", name)
        assert explained.place.is_copy
        assert Passage.model_validate_json(line_of(explained)) == index.find(name)


def test_without_its_source_the_index_s_own_copy_is_named(source: Path) -> None:
    index = opened(source)
    source.unlink()
    for one in PASSAGES:
        why = explain(index, "engine", one["id"])
        assert why.place.is_copy
        assert Passage.model_validate_json(line_of(why)) == index.find(one["id"])


@pytest.mark.parametrize("change", ["\x00broken", '{"id": 1', ""])
def test_a_source_that_changed_is_not_mistaken_for_what_was_read(change: str, source: Path) -> None:
    index = opened(source)
    source.write_text(change, encoding="utf-8")
    assert explain(index, "engine", "a").place.is_copy


def test_a_text_that_changed_or_is_too_long_is_not_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "a.txt"
    text.write_text("What was read.", encoding="utf-8")
    index = opened(text)
    assert not explain(index, "read", "a.txt#0").place.is_copy
    monkeypatch.setattr(why, "SCANNED", 5)
    assert explain(index, "read", "a.txt#0").place.is_copy
    monkeypatch.undo()
    text.write_text("What stands there now.", encoding="utf-8")
    assert explain(index, "read", "a.txt#0").place.is_copy


def test_an_id_names_no_file_outside_its_source(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("Secret.", encoding="utf-8")
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.txt").write_text("Public.", encoding="utf-8")
    index = opened(folder)
    for id in ("../secret.txt#0", f"{tmp_path}/secret.txt#0", "#0", "", "a.txt"):
        assert why._in_text(folder, Passage(id=id, title="secret", text="Secret."), DEFAULT) is None
    assert not explain(index, "public", "a.txt#0").place.is_copy
