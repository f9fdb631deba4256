"""BM25 through Tantivy against the formula, its terms, and what adding and deleting do to it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.errors import IndexFault
from steper_agent.records import Passage
from steper_agent.retrieval import lexical
from steper_agent.retrieval.intake import ShelfWriter, write_gone, write_ids
from steper_agent.retrieval.lexical import LexicalIndex, LexicalWriter, committed, tidy
from steper_agent.retrieval.ranking import Scored
from steper_agent.retrieval.shelf import Part, Shelf
from steper_agent.retrieval.terms import Language, LexicalSettings, Terms

PLAIN = LexicalSettings()
WORDS = ["engine", "engines", "london", "the", "of", "Málaga", "ada", "designs", "designed", "7", "x"]


def corpus(n: int, seed: int = 0) -> list[Passage]:
    rng = np.random.default_rng(seed)
    words = [*WORDS, *(f"word{number}" for number in range(200))]
    shares = 1 / (1 + np.arange(len(words)))
    lengths = rng.integers(0, 150, n)
    texts = [" ".join(rng.choice(words, size=int(length), p=shares / shares.sum())) for length in lengths]
    return [
        Passage(id=f"p{row}", title=" ".join(rng.choice(WORDS, size=row % 4)), text=text)
        for row, text in enumerate(texts)
    ]


def index(folder: Path, passages: Sequence[Passage], how: LexicalSettings = PLAIN, *, commits: int = 1) -> LexicalIndex:
    writer = LexicalWriter(folder, how)
    for row, passage in enumerate(passages):
        writer.add(row, passage)
        if not (row + 1) % (len(passages) // commits):
            writer.commit()
    writer.close()
    return LexicalIndex(folder, how)


def kept(length: int) -> int:
    """What Tantivy keeps of a length: exact up to 40, then eight steps a doubling, rounded down."""
    if length < 40:
        return length
    step = 1 << max(0, (length - 24).bit_length() - 4)
    return 24 + (length - 24) // step * step


def brute_force_bm25(passages: Sequence[Passage], query: str, how: LexicalSettings) -> list[float]:
    terms, scores = Terms(how), [0.0] * len(passages)
    for weight, read in ((1.0, lambda one: f"{one.title}\n{one.text}"), (how.title_weight, lambda one: one.title)):
        bags = [Counter(terms(read(passage))) for passage in passages]
        lengths = [kept(sum(bag.values())) for bag in bags]
        mean = sum(sum(bag.values()) for bag in bags) / len(bags)
        for term in dict.fromkeys(terms(query)):
            frequency = sum(term in bag for bag in bags)
            idf = math.log(1 + (len(bags) - frequency + 0.5) / (frequency + 0.5))
            for row, (bag, length) in enumerate(zip(bags, lengths, strict=True)):
                saturated = bag[term] / (bag[term] + 1.2 * (0.25 + 0.75 * length / mean)) if bag[term] else 0.0
                scores[row] += weight * 2.2 * idf * saturated
    return scores


@pytest.mark.parametrize("weight", [0.0, 0.4, 3.0])
@pytest.mark.parametrize(
    "query", ["engine", "the engine of London word3", "malaga designing", "ada ada x", "7 Engines word190 word7"]
)
def test_scores_are_those_of_the_formula(query: str, weight: float, tmp_path: Path) -> None:
    passages, how = corpus(1000), LexicalSettings(title_weight=weight)
    found = index(tmp_path, passages, how).search_many([query], 1000)[0]
    expected = brute_force_bm25(passages, query, how)
    assert {row for row, _ in found} == {row for row, score in enumerate(expected) if score > 0}
    assert [score for _, score in found] == pytest.approx([expected[row] for row, _ in found], rel=1e-5)


@pytest.mark.parametrize("commits", [1, 5])
def test_the_best_are_the_beginning_of_all_with_every_tie(commits: int, tmp_path: Path) -> None:
    opened = index(tmp_path, corpus(300) * 2, commits=commits)
    queries = ["engine london", "word3 designs", "x", "nothing at all", "", "the"]
    whole = opened.search_many(queries, 600)
    for k in (1, 3, 10, 200):
        for found, full in zip(opened.search_many(queries, k), whole, strict=True):
            least = full[k - 1][1] if len(full) >= k else 0.0
            assert sorted(found) == sorted((row, score) for row, score in full if score >= least)
    assert whole[3:] == [[], [], []]


def test_segments_and_batches_and_threads_do_not_change_an_answer(tmp_path: Path) -> None:
    passages = corpus(400)
    one, many = index(tmp_path / "one", passages), index(tmp_path / "many", passages, commits=7)
    queries = [f"engine word{number} london {WORDS[number % 11]}" for number in range(40)]

    def ranked(found: list[list[Scored]]) -> list[list[Scored]]:
        return [sorted(one, key=lambda pair: (-pair[1], pair[0])) for one in found]

    together = one.search_many(queries, 9)
    assert ranked(many.search_many(queries, 9)) == ranked(together)
    assert [one.search_many([query], 9)[0] for query in queries] == together
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda query: one.search_many([query], 9)[0], queries * 5)) == together * 5


def test_no_character_of_a_query_is_a_command(tmp_path: Path) -> None:
    opened = index(
        tmp_path, [Passage(id=name, title="", text=text) for name, text in (("a", "red fox"), ("b", "title row 0"))]
    )
    for query in (
        '"red fox" AND',
        "title:fox",
        "row:0",
        "-fox",
        "+red -fox",
        "fox*",
        "[a TO z]",
        "((((",
        "/fox/",
        "\x00fox",
        "\\",
        "fox~2^9",
    ):
        expected = {
            row for row, words in ((0, {"red", "fox"}), (1, {"titl", "row", "0"})) if words & set(Terms(PLAIN)(query))
        }
        assert {row for row, _ in opened.search_many([query], 9)[0]} == expected, query
    assert (
        opened.search_many(["red " * 100_000, " ".join(map(str, range(100_000)))], 2)[0]
        == opened.search_many(["red"], 2)[0]
    )


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Don't stop Ada's ENGINES", ["don", "t", "stop", "ada", "s", "engin"]),
        ("Málaga Ærø Straße 2nd 3.14", ["malaga", "aero", "strass", "2nd", "3", "14"]),
        ("北京大学 and カタカナ", ["北", "京", "大", "学", "カ", "タ", "カ", "ナ"]),
        ("한국어 Ελληνικά русский", ["한국어", "ελληνικά", "русский"]),
        ("e" * 255 + " " + "f" * 256, ["e" * 255]),
        ("\x00 😀 ½ \ud800 Ma\u0301laga", ["½", "malaga"]),
    ],
)
def test_text_becomes_terms(text: str, terms: list[str]) -> None:
    assert Terms(PLAIN)(text) == terms


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_any_text_is_cut_into_terms_that_are_found_again(text: str) -> None:
    terms = Terms(PLAIN)
    assert all(terms(text))
    assert Counter(terms(f"{text}\n{text}")) == Counter(terms(text) * 2)


@pytest.mark.parametrize("language", get_args(Language))
def test_every_language_has_its_stemmer(language: Language) -> None:
    assert Terms(LexicalSettings(language=language))("Zug 7") != []


def test_stop_words_are_the_languages_or_given_or_none() -> None:
    assert Terms(LexicalSettings(language="german"))("der Zug und für die Züge") == ["zug", "zug"]
    assert Terms(LexicalSettings(stop_words=("Zug",)))("the Zug") == ["the"]
    assert Terms(LexicalSettings(stop_words=(), language="none"))("the Trains") == ["the", "trains"]


def test_what_was_added_and_deleted_again_leaves_no_trace(tmp_path: Path) -> None:
    passages = corpus(200)
    opened = index(tmp_path, passages)
    queries = [passage.text[:60] for passage in passages[:50]]
    before = opened.search_many(queries, 10)
    writer = LexicalWriter(tmp_path, PLAIN)
    for row, passage in enumerate(corpus(30, seed=5), start=200):
        writer.add(row, passage)
    writer.close()
    assert (committed(tmp_path, 0), committed(tmp_path, 200)) == (230, 30)
    assert LexicalIndex(tmp_path, PLAIN).search_many(queries, 10) != before
    assert opened.search_many(queries, 10) == before, "what is open stays as it is"
    writer = LexicalWriter(tmp_path, PLAIN)
    writer.delete(range(200, 230))
    writer.close()
    assert LexicalIndex(tmp_path, PLAIN).search_many(queries, 10) == before
    assert committed(tmp_path, 200) == 0


@pytest.mark.parametrize("most", [200_000, 0])
def test_deleted_passages_that_still_count_are_written_out_where_it_is_quick_or_they_are_many(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "REWRITE_MOST", most)
    passages = corpus(100)
    (tmp_path / "shelf").mkdir()
    with ShelfWriter(tmp_path / "shelf") as shelf_writer:
        for passage in passages:
            shelf_writer.add(passage)
        write_ids(tmp_path / "shelf", shelf_writer.close(), Shelf(tmp_path))
    parts = [Part(folder="shelf", rows=100)]
    index(tmp_path / "words", passages)
    alone = index(tmp_path / "alone", passages[20:]).search_many(["engine word3"], 5)
    for gone, left in ((5, 5 if not most else 0), (20, 0)):
        write_gone(tmp_path / "shelf", range(gone), Shelf(tmp_path, parts, ids="shelf"))
        writer = LexicalWriter(tmp_path / "words", PLAIN)
        writer.delete(range(gone))
        writer.close()
        shelf = Shelf(tmp_path, parts, ids="shelf", gone="shelf")
        assert tidy(tmp_path / "words", PLAIN, shelf) == left
    found = LexicalIndex(tmp_path / "words", PLAIN).search_many(["engine word3"], 5)
    assert [[(row - 20, score) for row, score in one] for one in found] == alone


def test_a_passage_is_held_in_its_own_row_only(tmp_path: Path) -> None:
    passages = [Passage(id=str(row), title="Twin", text=f"number {row} of many") for row in range(50)]
    opened = index(tmp_path, passages)
    assert all(opened.holds(row, passage) for row, passage in enumerate(passages))
    assert not any(opened.holds(row + 1, passage) for row, passage in enumerate(passages))


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index(tmp_path / "words", corpus(50)).search_many(["engine"], 9)
    for lock in (tmp_path / "words").glob("*.lock"):
        lock.unlink()
        lock.mkdir()  # Nobody can write to that, not even root.
    with pytest.raises(IndexFault, match="cannot be read"):
        LexicalIndex(tmp_path / "words", PLAIN)
    monkeypatch.setattr(lexical.os, "access", lambda *_: False)
    assert LexicalIndex(tmp_path / "words", PLAIN).search_many(["engine"], 9) == before


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexFault, match="cannot be read"):
        LexicalIndex(tmp_path, PLAIN)
    (tmp_path / "meta.json").write_text("{", encoding="utf-8")
    with pytest.raises(IndexFault, match="cannot be written"):
        LexicalWriter(tmp_path, PLAIN)
    assert committed(tmp_path, 0) == 0


def test_the_languages_are_told_without_loading_tantivy() -> None:
    code = "import steper_agent.retrieval.terms, sys; assert 'tantivy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
