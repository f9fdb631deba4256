"""An index folder: what is built is opened, what is damaged or foreign is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from steper_agent.errors import ConfigError, DataError, DependencyError, IndexFault
from steper_agent.retrieval import (
    IndexSettings,
    LexicalSettings,
    build_index,
    delete_passages,
    foreign,
    open_index,
    read_passages,
    read_questions,
    verify_index,
)
from tests.steper_agent.retrieval.shelves import DATA, PASSAGES, HashEncoder, write_lines

MODES: list[tuple[str, Any]] = [("bm25", None), ("dense", HashEncoder()), ("hybrid", HashEncoder())]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "corpus.jsonl", PASSAGES)


@pytest.mark.parametrize(("mode", "encoder"), MODES)
def test_what_is_built_is_opened_and_every_passage_finds_itself(mode: Any, encoder: Any, source: Path) -> None:
    out = source.parent / "index"
    made = build_index([source], out, mode=mode, encoder=encoder)
    index = open_index(out, encoder, corpus=source)
    assert made.passages == len(index) == 4
    assert index.manifest == made
    for passage in read_passages(source):
        assert index.search(f"{passage.title} {passage.text}", 1)[0].passage == passage
        assert index.find(passage.id) == passage


@pytest.mark.parametrize(("mode", "encoder"), MODES)
def test_searching_is_bounded_and_repeatable_from_many_threads(mode: Any, encoder: Any, source: Path) -> None:
    build_index([source], source.parent / "index", mode=mode, encoder=encoder)
    index = open_index(source.parent / "index", encoder)
    assert index.search("engine", 0) == ()
    assert index.search(" ", 5) == ()
    assert len(index.search("engine london malaga", 99)) <= 4
    alone = index.search("analytical engine", 3)
    assert alone[:1] == index.search("analytical engine", 1)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _n: index.search("analytical engine", 3), range(50))) == {alone}


def test_a_query_of_unknown_words_finds_nothing(source: Path) -> None:
    build_index([source], source.parent / "index")
    index = open_index(source.parent / "index")
    assert index.search("zzz of the", 4) == ()
    assert [hit.passage.id for hit in index.search("MALAGA", 4)] == ["d"]


def test_the_retriever_is_langchains(source: Path) -> None:
    build_index([source], source.parent / "index")
    index = open_index(source.parent / "index", k=2)
    hits = index.search("analytical engine", 2)
    documents = index.invoke("analytical engine")
    assert asyncio.run(index.ainvoke("analytical engine")) == documents
    assert [(d.id, d.page_content, d.metadata) for d in documents] == [
        (hit.passage.id, hit.passage.text, {"title": hit.passage.title, "score": hit.score}) for hit in hits
    ]


def test_ours_and_foreign_retrievers_are_searched_alike(source: Path) -> None:
    build_index([source], source.parent / "index")
    index = open_index(source.parent / "index")

    class Foreign(BaseRetriever):
        def _get_relevant_documents(self, query: str, **_rest: Any) -> list[Document]:
            return [
                Document(page_content=query, metadata={"title": "T", "id": 5, "score": 0.5}),
                Document(page_content=query, metadata={"title": "T", "id": 5}),
                Document(page_content="no id"),
                Document(page_content="cut"),
            ]

    assert asyncio.run(foreign.search(index, "engine", 2)) == index.search("engine", 2)
    hits = asyncio.run(foreign.search(Foreign(), "q", 2))
    assert [(hit.passage.text, hit.passage.title, hit.score) for hit in hits] == [("q", "T", 0.5), ("no id", "", -3.0)]
    assert hits[0].passage.id == "5"
    assert hits[1].passage.id.startswith("p")


def test_the_same_sources_give_the_same_identity_and_others_another(source: Path) -> None:
    one = build_index([source], source.parent / "one")
    two = build_index([write_lines(source.parent / "turned.jsonl", PASSAGES[::-1])], source.parent / "two")
    other = build_index([write_lines(source.parent / "other.jsonl", PASSAGES[:3])], source.parent / "three")
    assert one.identity == two.identity != other.identity
    german = IndexSettings(lexical=LexicalSettings(language="german"))
    assert build_index([source], source.parent / "four", settings=german).identity != one.identity


def test_every_damaged_or_missing_file_is_noticed_by_name(source: Path) -> None:
    out = source.parent / "index"
    build_index([source], out, mode="hybrid", encoder=HashEncoder())
    made = delete_passages(out, ["b"])
    for name in [*made.files, "manifest.json"]:
        whole = (out / name).read_bytes()
        (out / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(IndexFault) as flipped:
            open_index(out, HashEncoder())
        (out / name).write_bytes(whole[:-2])
        with pytest.raises(IndexFault) as cut:
            open_index(out, HashEncoder())
        (out / name).unlink()
        with pytest.raises(IndexFault) as gone:
            open_index(out, HashEncoder())
        (out / name).write_bytes(whole)
        if name in made.files:
            assert {str(bad.value.where) for bad in (flipped, cut, gone)} == {str(out / name)}
    assert verify_index(out) == []
    open_index(out, HashEncoder())


def test_all_that_is_wrong_is_told_at_once(source: Path) -> None:
    out = source.parent / "index"
    build_index([source], out)
    (out / "0001/offsets.npy").unlink()
    with (out / "0001/ids.npy").open("ab") as file:
        file.write(b"x")
    assert [str(bad.where) for bad in verify_index(out)] == [str(out / "0001/ids.npy"), str(out / "0001/offsets.npy")]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("passages", 5, "manifest was changed"),
        ("format", 99, "format 99"),
        ("format", 1, "format 1"),
        ("mode", "magic", "mode"),
        ("surprise", 1, "surprise"),
        ("files", {}, "manifest was changed"),
    ],
)
def test_a_manifest_that_lies_is_refused(key: str, value: Any, message: str, source: Path) -> None:
    out = source.parent / "index"
    build_index([source], out)
    manifest = out / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), key: value}), encoding="utf-8")
    with pytest.raises(IndexFault, match=message):
        open_index(out)
    build_index([source], out)
    assert len(open_index(out)) == 4, "building again is the cure"


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "null"])
def test_a_manifest_that_is_none_is_refused(text: str, source: Path) -> None:
    (source.parent / "index").mkdir()
    (source.parent / "index" / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(IndexFault, match="manifest|format None"):
        open_index(source.parent / "index")


def test_an_index_of_other_passages_under_the_same_manifest_fails_the_probe(source: Path) -> None:
    from steper_agent.retrieval import manifest, stamps

    lines = [{"id": str(n), "title": "", "text": f"word{n} only"} for n in range(40)]
    out, other = source.parent / "index", source.parent / "other"
    made = build_index([write_lines(source.parent / "one.jsonl", lines)], out)
    build_index([write_lines(source.parent / "two.jsonl", lines[20:] + lines[:20])], other)
    shutil.rmtree(out / "0001/lexical")
    shutil.copytree(other / "0001/lexical", out / "0001/lexical")
    names = [path.relative_to(out).as_posix() for path in (out / "0001").rglob("*") if path.is_file()]
    manifest.write(out, made.model_copy(update={"files": stamps.seal(out, names)}))
    with pytest.raises(IndexFault, match="do not find themselves"):
        open_index(out)


def test_another_corpus_is_refused(source: Path) -> None:
    build_index([source], source.parent / "index")
    changed = write_lines(source.parent / "changed.jsonl", [*PASSAGES[:3], {**PASSAGES[3], "text": "Rewritten."}])
    with pytest.raises(IndexFault, match="made for another corpus"):
        open_index(source.parent / "index", corpus=changed)


def test_another_encoder_is_refused(source: Path) -> None:
    out = source.parent / "index"
    build_index([source], out, mode="dense", encoder=HashEncoder())
    with pytest.raises(IndexFault, match="encoder makes 8"):
        open_index(out, HashEncoder(8))
    with pytest.raises(IndexFault, match="sees the passages otherwise"):
        open_index(out, HashEncoder(salt="other"))
    with pytest.raises(IndexFault, match="encoder from Python"):
        open_index(out)


def test_a_failed_build_leaves_nothing_and_spares_what_was_there(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index([source], out)
    broken = tmp_path / "broken.jsonl"
    broken.write_text(source.read_text(encoding="utf-8") + "{\n", encoding="utf-8")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError, match="broken JSON"):
        build_index([broken], out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    open_index(out, corpus=source)
    build_index([write_lines(tmp_path / "fewer.jsonl", PASSAGES[:2])], out)
    assert len(open_index(out)) == 2


def test_an_impossible_request_is_refused_before_anything_is_read(source: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    out = source.parent / "index"
    with pytest.raises(ConfigError, match="needs an encoder"):
        build_index([source], out, mode="dense")
    with pytest.raises(ConfigError, match="uses no encoder"):
        build_index([source], out, encoder=HashEncoder())
    with pytest.raises(ConfigError, match="unknown encoder"):
        build_index([source], out, mode="dense", encoder="magic")
    with pytest.raises(DependencyError, match="needs sentence-transformers"):
        build_index([source], out, mode="dense", encoder="sentence-transformers:x")
    with pytest.raises(ConfigError, match="in the way"):
        build_index([source], source.parent)
    with pytest.raises(IndexFault, match="no such index"):
        open_index(out)
    with pytest.raises(IndexFault, match="not an index"):
        open_index(source.parent)


def test_importing_the_room_stays_light() -> None:
    code = "import steper_agent.retrieval, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "faiss", "tantivy", "langchain_core", "torch"} & set(loaded)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "at_2", "at_5", "at_10"), [("hotpotqa", 0.639, 0.798, 0.885), ("2wikimultihopqa", 0.614, 0.687, 0.709)]
)
def test_recall_on_real_questions_is_no_less_than_it_was(
    name: str, at_2: float, at_5: float, at_10: float, tmp_path: Path
) -> None:
    build_index([DATA / f"{name}.corpus.jsonl"], tmp_path / "index")
    index = open_index(tmp_path / "index")
    questions = read_questions(DATA / f"{name}.questions.jsonl", need_answers=True)
    answers = index.search_many([question.text for question in questions], 10)
    for k, least in ((2, at_2), (5, at_5), (10, at_10)):
        found = 0.0
        for question, hits in zip(questions, answers, strict=True):
            found += len({hit.passage.id for hit in hits[:k]} & set(question.supporting_ids)) / len(
                question.supporting_ids
            )
        assert found / len(questions) >= least
