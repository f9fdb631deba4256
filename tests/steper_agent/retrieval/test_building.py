"""Building, adding and deleting: an index is what its passages make it, whatever was done to come there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from steper_agent.errors import ConfigError, DataError, IndexFault, ModelError
from steper_agent.records import Hit
from steper_agent.retrieval import (
    IndexRetriever,
    IndexSettings,
    LexicalSettings,
    Tally,
    add_passages,
    build_index,
    delete_passages,
    growing,
    lexical,
    open_index,
    verify_index,
)
from tests.steper_agent.retrieval.shelves import HOTPOT, PASSAGES, HashEncoder, write_json, write_lines

MODES: list[tuple[Any, Any]] = [("bm25", None), ("dense", HashEncoder()), ("hybrid", HashEncoder())]
QUERIES = ["analytical engine", "london", "who wrote the first program", "picasso", "novel of the sea", "number 7"]
MORE = [{"id": f"n{n:03}", "title": f"Number {n}", "text": f"A novel about the sea and number {n}."} for n in range(60)]


def found(index: IndexRetriever) -> list[tuple[Hit, ...]]:
    return index.search_many(QUERIES, 5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "corpus.jsonl", PASSAGES)


@pytest.fixture
def more(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "more.jsonl", MORE)


@pytest.mark.parametrize("name", ["0001", "2024", "notes"])
def test_a_folder_that_others_made_is_left_alone_whatever_it_is_called(name: str, source: Path) -> None:
    out = source.parent / "out"
    (out / name).mkdir(parents=True)
    mine = write_lines(out / name / "mine.jsonl", PASSAGES)
    with pytest.raises(ConfigError, match="in the way"):
        build_index([source], out)
    assert mine.exists()


@pytest.mark.parametrize(("mode", "encoder"), MODES)
def test_what_was_added_in_parts_is_found_as_if_built_at_once(
    mode: Any, encoder: Any, source: Path, more: Path
) -> None:
    out, whole = source.parent / "index", source.parent / "whole"
    build_index([source], out, mode=mode, encoder=encoder)
    made = add_passages(out, [more], encoder=encoder)
    at_once = build_index([source, more], whole, mode=mode, encoder=encoder)
    assert (made.identity, made.characters, made.passages) == (at_once.identity, at_once.characters, 64)
    assert found(open_index(out, encoder)) == found(open_index(whole, encoder))
    assert open_index(out, encoder, corpus=[more, source]).manifest == made
    assert made.sources == ("corpus.jsonl", "more.jsonl")


@pytest.mark.parametrize(("mode", "encoder"), MODES)
def test_adding_and_deleting_the_same_passages_changes_nothing(
    mode: Any, encoder: Any, source: Path, more: Path
) -> None:
    out = source.parent / "index"
    before = build_index([source], out, mode=mode, encoder=encoder)
    answers = found(open_index(out, encoder))
    add_passages(out, [more], encoder=encoder)
    assert found(open_index(out, encoder)) != answers
    after = delete_passages(out, [passage["id"] for passage in MORE])
    assert (after.identity, after.characters, after.passages, after.rows) == (before.identity, before.characters, 4, 64)
    assert found(open_index(out, encoder)) == answers


@pytest.mark.parametrize(("mode", "encoder"), MODES)
def test_a_deleted_passage_is_nowhere_and_its_id_is_free_again(
    mode: Any, encoder: Any, source: Path, more: Path
) -> None:
    out = source.parent / "index"
    build_index([source, more], out, mode=mode, encoder=encoder)
    delete_passages(out, ["d", "n007", "a"])
    index = open_index(out, encoder)
    assert len(index) == 61
    assert index.find("d") is None
    hits = index.search_many([*QUERIES, PASSAGES[3]["text"]], 64)
    assert not {"d", "n007", "a"} & {hit.passage.id for one in hits for hit in one}
    made = add_passages(out, [write_lines(source.parent / "again.jsonl", [PASSAGES[3]])], encoder=encoder)
    assert open_index(out, encoder).search("picasso", 1)[0].passage.id == "d"
    assert (made.passages, made.rows) == (62, 65)


def test_every_passage_can_be_deleted_and_the_index_goes_on(source: Path, more: Path) -> None:
    out = source.parent / "index"
    build_index([source], out)
    assert delete_passages(out, "abcd").corpus == f"{0:064x}"
    assert open_index(out).search("engine", 3) == ()
    add_passages(out, [more])
    assert len(open_index(out)) == 60


def test_an_id_that_is_there_is_refused_by_name_or_replaced(source: Path) -> None:
    out = source.parent / "index"
    before = build_index([source], out)
    changed = write_lines(source.parent / "new.jsonl", [{**PASSAGES[3], "text": "Rewritten."}, PASSAGES[0], MORE[0]])
    with pytest.raises(DataError, match="'d'"):
        add_passages(out, [changed])
    assert open_index(out).manifest == before
    tally = Tally()
    made = add_passages(out, [changed], replace=True, tally=tally)
    assert (made.passages, made.rows, tally.passages, tally.duplicates) == (5, 6, 2, 1), (
        "one of them was there as it is"
    )
    index = open_index(out)
    assert index.search("picasso", 4) == ()
    assert index.search("rewritten", 4)[0].passage == index.find("d")
    kept = write_lines(source.parent / "kept.jsonl", [*PASSAGES[:3], {**PASSAGES[3], "text": "Rewritten."}, MORE[0]])
    assert open_index(out, corpus=kept).digest == build_index([kept], source.parent / "fresh").identity


def test_paragraphs_that_the_index_has_are_duplicates_and_adding_nothing_new_makes_no_generation(
    tmp_path: Path,
) -> None:
    out, tally = tmp_path / "index", Tally()
    before = build_index([write_json(tmp_path / "hotpot.json", [HOTPOT])], out)
    assert add_passages(out, [tmp_path / "hotpot.json"], tally=tally) == before
    assert (tally.passages, tally.duplicates) == (0, 3)
    assert sorted(path.name for path in out.iterdir()) == [".verified.json", "0001", "lock", "manifest.json"]


def test_many_small_additions_leave_few_files_and_lose_nothing(source: Path) -> None:
    out = source.parent / "index"
    build_index([source], out)
    for passage in MORE[:20]:
        made = add_passages(out, [write_lines(source.parent / "one.jsonl", [passage])])
    assert len(made.parts) <= 5
    assert [one.id for one in open_index(out).shelf] == [*"abcd", *(passage["id"] for passage in MORE[:20])]
    assert len(list(out.glob("[0-9]*"))) <= len(made.parts) + 3
    assert verify_index(out) == []


def test_deleting_what_is_not_there_is_an_error_or_nothing(source: Path) -> None:
    out = source.parent / "index"
    before = build_index([source], out)
    with pytest.raises(DataError, match="'x'"):
        delete_passages(out, ["a", "x"])
    assert delete_passages(out, ["x"], missing="ignore") == before
    assert delete_passages(out, ["x", "a", "a"], missing="ignore").passages == 3


def test_words_of_deleted_passages_count_until_the_index_of_words_is_rewritten(
    source: Path, more: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "REWRITE_MOST", 0)
    out = source.parent / "index"
    build_index([source, more], out)
    made = delete_passages(out, ["n001"])
    fresh = build_index([source, write_lines(more, MORE[:1] + MORE[2:])], source.parent / "fresh")
    assert made.corpus == fresh.corpus
    assert made.lingering == 1
    assert made.identity != fresh.identity, "it may answer otherwise"
    assert (delete_passages(out, [f"n{n:03}" for n in range(2, 20)])).lingering == 0


def test_a_failed_build_leaves_nothing_and_spares_what_was_there(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    before = build_index([source], out)
    broken = tmp_path / "broken.jsonl"
    broken.write_text(source.read_text(encoding="utf-8") + "{\n", encoding="utf-8")
    names = sorted(path.name for path in out.iterdir())
    for fails in (lambda: build_index([broken], out), lambda: build_index([broken], tmp_path / "new")):
        with pytest.raises(DataError, match="broken JSON"):
            fails()
    assert sorted(path.name for path in out.iterdir()) == names
    assert not (tmp_path / "new").exists()
    assert open_index(out, corpus=source).manifest == before
    assert build_index([write_lines(tmp_path / "fewer.jsonl", PASSAGES[:2])], out).generation == 2
    assert len(open_index(out)) == 2


@pytest.mark.parametrize("failing", ["write_ids", "finish"])
def test_a_full_disk_costs_the_new_generation_only(
    failing: str, source: Path, more: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = source.parent / "index"
    build_index([source], out)
    with monkeypatch.context() as broken:
        broken.setattr(growing, failing, full)
        with pytest.raises(OSError, match="No space"):
            add_passages(out, [more])
    assert len(open_index(out, corpus=source)) == 4
    assert add_passages(out, [more]).passages == 64
    build_index([source, more], source.parent / "whole")
    assert found(open_index(out)) == found(open_index(source.parent / "whole"))


def test_an_encoder_that_fails_keeps_what_was_read_and_another_request_starts_afresh(source: Path) -> None:
    class Failing(HashEncoder):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise ConnectionError(f"gone before {len(texts)} texts")

    out = source.parent / "index"
    with pytest.raises(ModelError, match="gone before 4 texts"):
        build_index([source], out, mode="hybrid", encoder=Failing())
    with pytest.raises(IndexFault, match="was not finished"):
        open_index(out)
    assert (out / ".building").is_dir()
    assert build_index([source], out).mode == "bm25"
    assert not (out / ".building").exists()
    assert len(open_index(out)) == 4


def test_a_second_encoder_cannot_add(source: Path, more: Path) -> None:
    class Other(HashEncoder):
        pass

    out = source.parent / "index"
    build_index([source], out, mode="dense", encoder=HashEncoder())
    with pytest.raises(ConfigError, match="built with object:"):
        add_passages(out, [more], encoder=Other())
    with pytest.raises(ConfigError, match="encoder from Python"):
        add_passages(out, [more])
    with pytest.raises(IndexFault, match="encoder makes 8"):
        add_passages(out, [more], encoder=HashEncoder(8))


@pytest.mark.parametrize("verb", [lambda out: add_passages(out, [out]), lambda out: delete_passages(out, ["a"])])
def test_nothing_is_added_to_or_deleted_from_a_damaged_or_missing_index(verb: Any, source: Path) -> None:
    out = source.parent / "index"
    with pytest.raises(IndexFault, match="no such index"):
        verb(out)
    assert not out.exists()
    build_index([source], out)
    (out / "0001/ids.npy").write_bytes(b"x")
    with pytest.raises(IndexFault, match="bytes, not"):
        verb(out)


def test_settings_are_kept_for_what_is_added_later(source: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "long.txt").write_text("Ein Zug. " * 40, encoding="utf-8")
    settings = IndexSettings(lexical=LexicalSettings(language="german", stop_words=("ein",), title_weight=0))
    build_index([source], tmp_path / "index", settings=settings.model_copy(update={"chunking": {"chars": 90}}))
    made = add_passages(tmp_path / "index", [tmp_path / "texts"])
    assert made.passages == 4 + 4
    assert made.lexical == settings.lexical
    assert open_index(tmp_path / "index").search("Züge", 1)[0].passage.id == "long.txt#0"
    assert json.loads((tmp_path / "index/manifest.json").read_bytes())["lexical"]["language"] == "german"
