"""Compressed files: told by content, read as they were, never torn in silence, never without bound."""

from __future__ import annotations

import random
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
import zstandard

from steper_agent.errors import DataError
from steper_agent.retrieval.sources import streams
from steper_agent.retrieval.sources.streams import opened, read_whole
from tests.steper_agent.retrieval.sources.made import COMPRESS, write

CONTENT = b"".join(b"%d %r\n" % (n, random.Random(n).random()) for n in range(40_000))
TORN = sorted(COMPRESS.keys() - {"plain"})


def content_of(path: Path) -> bytes:
    with opened(path) as stream:
        return stream.read()


@pytest.mark.parametrize("form", COMPRESS)
@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["empty", "one byte", "long"])
def test_what_was_compressed_reads_as_it_was_whatever_its_name(form: str, content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "named.txt", COMPRESS[form](content))
    assert content_of(path) == content
    with opened(path) as stream:
        assert content.startswith(stream.peek(1))
        assert b"".join(iter(stream.readline, b"")) == content


@pytest.mark.parametrize("form", COMPRESS)
def test_pieces_compressed_one_after_the_other_are_one_file(form: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x", COMPRESS[form](b"first\n") + COMPRESS[form](CONTENT) + COMPRESS[form](b"last"))
    assert content_of(path) == b"first\n" + CONTENT + b"last"


@pytest.mark.parametrize("form", TORN)
def test_a_file_cut_short_anywhere_is_an_error_that_names_it(form: str, tmp_path: Path) -> None:
    whole = COMPRESS[form](CONTENT)
    for size in (10, 100, 1024, len(whole) // 2, len(whole) - 5, len(whole) - 1):
        path = write(tmp_path / f"cut-{size}", whole[:size])
        with pytest.raises(DataError, match="torn or damaged") as caught:
            content_of(path)
        assert caught.value.where == path


@pytest.mark.parametrize("form", TORN)
def test_a_damaged_file_is_an_error_that_names_it(form: str, tmp_path: Path) -> None:
    whole = bytearray(COMPRESS[form](CONTENT))
    for at in range(len(whole) // 2, len(whole) // 2 + 64):
        whole[at] ^= 0xFF
    with pytest.raises(DataError, match="torn or damaged"):
        content_of(write(tmp_path / "x", bytes(whole)))


@pytest.mark.parametrize("form", TORN)
def test_a_bomb_is_refused_before_it_has_filled_the_memory(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FLOOR", 4 << 20)
    zeros = bytes(200 << 20)
    path = write(tmp_path / "x", zstandard.ZstdCompressor().compress(zeros) if form == "zst" else COMPRESS[form](zeros))
    tracemalloc.start()
    try:
        with opened(path) as stream, pytest.raises(DataError, match="expands to more than") as caught:
            all(iter(partial(stream.read, 1 << 20), b""))
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.where == path


def test_what_shrinks_well_but_is_small_is_no_bomb(tmp_path: Path) -> None:
    assert len(content_of(write(tmp_path / "x", COMPRESS["gz"](bytes(8 << 20))))) == 8 << 20


def test_a_document_beyond_its_limit_and_a_path_that_is_no_file_are_said_so(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", bytes(5 << 20))
    assert len(read_whole(path, 5 << 20)) == 5 << 20
    with pytest.raises(DataError, match="more than 4 MiB"):
        read_whole(path, 4 << 20)
    with pytest.raises(DataError, match="cannot be read: Is a directory"), opened(tmp_path):
        pass
