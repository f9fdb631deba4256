"""The choice of an index: it fits the memory it was given, and its estimate is what the files weigh."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from steper_agent.errors import ConfigError
from steper_agent.retrieval.choosing import (
    FLAT_MOST,
    DenseKind,
    DenseSettings,
    Flat,
    Hnsw,
    Ivf,
    IvfPq,
    choose,
    estimate,
)
from steper_agent.retrieval.dense import build
from tests.steper_agent.retrieval.vectors import shards_of, unit_mixture

GB = 1 << 30
KINDS: tuple[DenseKind, ...] = ("flat", "hnsw", "ivf", "ivfpq")


@pytest.mark.parametrize(
    ("passages", "memory", "kind"),
    [
        (1, GB, "flat"),
        (FLAT_MOST, 0, "flat"),
        (FLAT_MOST + 1, 2 * GB, "hnsw"),
        (1_000_000, 8 * GB, "hnsw"),
        (1_000_000, 3 * GB, "ivf"),
        (5_000_000, 4 * GB, "ivfpq"),
        (5_000_000, 32 * GB, "hnsw"),
    ],
)
def test_the_kind_follows_from_size_and_memory(passages: int, memory: int, kind: str) -> None:
    assert choose(passages, 384, memory=memory).kind == kind


@given(
    st.integers(min_value=300_000, max_value=20_000_000),
    st.sampled_from([96, 384, 768, 1024]),
    st.integers(min_value=1, max_value=64),
)
def test_what_is_chosen_fits_unless_nothing_does(passages: int, dimension: int, gigabytes: int) -> None:
    chosen = choose(passages, dimension, memory=gigabytes * GB)
    needs = estimate(passages, dimension, chosen).build_memory
    least = estimate(passages, dimension, choose(passages, dimension, kind="ivfpq", memory=0)).build_memory
    assert needs <= max(gigabytes * GB, least)
    if isinstance(chosen, IvfPq):
        assert dimension % chosen.pq_bytes == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimate_is_within_a_tenth_of_the_file(kind: DenseKind, tmp_path: Path) -> None:
    vectors = unit_mixture(4000, 32)
    settings = choose(*vectors.shape, kind=kind)
    build(shards_of(vectors, tmp_path / "vectors"), tmp_path / "dense.faiss", settings)
    assert estimate(*vectors.shape, settings).disk == pytest.approx((tmp_path / "dense.faiss").stat().st_size, rel=0.1)


@pytest.mark.parametrize("passages", [1, 2, 10, 300, 20_000, 5_000_000])
def test_there_are_never_more_probes_than_lists_nor_lists_than_passages(passages: int) -> None:
    chosen = choose(passages, 384, kind="ivf")
    assert isinstance(chosen, Ivf)
    assert 1 <= chosen.probes <= chosen.lists <= max(passages, 2)


@pytest.mark.parametrize("settings", [Flat(), Hnsw(m=16), Ivf(lists=4, probes=2), IvfPq(lists=4, probes=2, pq_bytes=8)])
def test_settings_are_read_as_they_were_written(settings: Flat | Hnsw | Ivf | IvfPq) -> None:
    reader: TypeAdapter[object] = TypeAdapter(DenseSettings)
    assert reader.validate_json(settings.model_dump_json()) == settings


def test_a_parameter_of_another_kind_is_an_error() -> None:
    reader: TypeAdapter[object] = TypeAdapter(DenseSettings)
    with pytest.raises(ValidationError):
        reader.validate_python({"kind": "flat", "probes": 3})


def test_nothing_cannot_be_indexed() -> None:
    with pytest.raises(ConfigError, match="no passage to index"):
        choose(0, 384)
