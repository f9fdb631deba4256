"""Long text cut into passages: nothing lost, nothing too long, and what is repeated is whole sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steper_agent.errors import ConfigError
from steper_agent.retrieval.sources.chunking import Chunking, chunks

TEXTS = st.text(alphabet="ab. \n!ü", max_size=300)
SIZES = st.integers(min_value=1, max_value=50)


def plainly(text: str, size: int) -> Iterator[str]:
    """The same without overlap, said in the shortest way: on strings, not on places in the text."""
    pack = ""
    for paragraph in re.split(r"\n[^\S\n]*\n", text):
        rest = paragraph.strip()
        while rest:
            piece = rest
            if len(rest) > size:
                ends = [found.end() for found in re.finditer(r"[.!?]\s", rest[: size + 1])]
                cut = ends[-1] if ends else rest[: size + 1].rfind(" ")
                piece = rest[: min(cut, size) if cut > 0 else size]
            rest, piece = rest[len(piece) :].strip(), piece.strip()
            if pack and len(pack) + 2 + len(piece) > size:
                yield pack
                pack = piece
            else:
                pack = f"{pack}\n\n{piece}" if pack else piece
    if pack:
        yield pack


@settings(deadline=None)
@given(TEXTS, SIZES)
def test_without_overlap_it_is_paragraphs_packed_in_order(text: str, size: int) -> None:
    assert [chunk.text for chunk in chunks(text, Chunking(chars=size))] == list(plainly(text, size))


@settings(deadline=None)
@given(TEXTS, SIZES, st.integers(min_value=0, max_value=49))
@example("!.\n a\n  ! .", 7, 3)
def test_every_sign_is_kept_in_order_within_the_stated_size(text: str, size: int, overlap: int) -> None:
    found = list(chunks(text, Chunking(chars=size, overlap=min(overlap, size - 1))))
    assert all(0 < len(chunk.text) <= size for chunk in found)
    signs, reached = [(at, sign) for at, sign in enumerate(text) if not sign.isspace()], -1
    for chunk in found:
        its = [sign for sign in chunk.text if not sign.isspace()]
        begins = next(number for number, (at, _) in enumerate(signs) if at == chunk.begins)
        # Each passage is a stretch of the text that leaves no gap behind the one before and goes on beyond it.
        assert its == [sign for _, sign in signs[begins : begins + len(its)]]
        assert begins <= reached + 1 < begins + len(its)
        reached = begins + len(its) - 1
    assert reached == len(signs) - 1


@settings(deadline=None)
@given(TEXTS, SIZES, st.integers(min_value=1, max_value=49))
def test_what_is_said_again_is_the_last_sentences_of_the_passage_before(text: str, size: int, overlap: int) -> None:
    overlap = min(overlap, size - 1)
    found = list(chunks(text, Chunking(chars=size, overlap=overlap)))
    for before, after in zip(found, found[1:], strict=False):
        ends = before.begins + len(before.text)
        if after.begins < ends and "\n\n" not in before.text:
            assert ends - after.begins <= overlap
            assert re.search(r"(?:[.!?]\s|\n[^\S\n]*\n)\s*$", text[: after.begins])


def test_an_overlap_repeats_whole_sentences_and_joins_them_as_they_stood() -> None:
    text = "One is first. Two is next. Three is then. Four is last."
    found = [chunk.text for chunk in chunks(text, Chunking(chars=30, overlap=14))]
    assert found == ["One is first. Two is next.", "Two is next. Three is then.", "Three is then. Four is last."]


@pytest.mark.parametrize(("chars", "overlap"), [(0, 0), (10, 10), (10, -1), (5, 9)])
def test_a_size_or_overlap_that_makes_no_sense_is_a_setting_to_mend(chars: int, overlap: int) -> None:
    with pytest.raises(ConfigError, match="chars"):
        Chunking(chars=chars, overlap=overlap)


@pytest.mark.timeout(20)
def test_a_paragraph_of_megabytes_is_cut_in_a_second_or_two() -> None:
    assert sum(len(chunk.text) for chunk in chunks("word. " * 1_000_000)) > 5_900_000
