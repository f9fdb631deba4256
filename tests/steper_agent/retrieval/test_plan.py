"""What an index will take, against what it takes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from steper_agent.errors import ConfigError
from steper_agent.retrieval import build_index, read_corpus
from steper_agent.retrieval.plan import plan, refuse
from tests.steper_agent.retrieval.shelves import DATA, PASSAGES, write_lines


def test_small_sources_are_counted(tmp_path: Path) -> None:
    made = plan([write_lines(tmp_path / "corpus.jsonl", PASSAGES)], tmp_path / "not" / "there" / "yet")
    assert (made.passages, made.is_exact, made.dense) == (4, True, None)
    assert made.free_disk > 0
    assert made.free_memory > 0


@pytest.mark.parametrize("pack", [False, True])
def test_large_sources_are_estimated_within_a_fifth(pack: bool, tmp_path: Path) -> None:
    lines = [
        {"id": str(n), "title": f"Title {n}", "text": " ".join(f"word{n * k % 997}" for k in range(90))}
        for n in range(12_000)
    ]
    source = write_lines(tmp_path / "corpus.jsonl", lines)
    if pack:
        (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(source.read_bytes()))
        source = tmp_path / "corpus.jsonl.gz"
    made = plan([source], tmp_path)
    assert not made.is_exact
    assert made.passages == pytest.approx(12_000, rel=0.2)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside this checkout")
def test_disk_is_estimated_within_a_fifth(tmp_path: Path) -> None:
    source = DATA / "hotpotqa.corpus.jsonl"
    made = plan([source], tmp_path)
    built = build_index([source], tmp_path / "index")
    assert made.passages == pytest.approx(sum(1 for _ in read_corpus([source])), rel=0.2)
    assert made.disk == pytest.approx(built.bytes, rel=0.2)


def test_what_cannot_fit_is_refused_with_a_cure(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "corpus.jsonl", PASSAGES)
    made = plan([source], tmp_path, mode="hybrid", dimension=384)
    refuse(made, tmp_path)
    with pytest.raises(ConfigError, match="of disk"):
        refuse(made.model_copy(update={"free_disk": 1}), tmp_path)
    with pytest.raises(ConfigError, match="of memory") as bad:
        refuse(made.model_copy(update={"free_memory": 1}), tmp_path)
    assert "ivfpq" in bad.value.fix
