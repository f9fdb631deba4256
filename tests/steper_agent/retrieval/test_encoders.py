"""Encoders: unit vectors in the order of the texts, the right words before each, and errors with their cure."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

from steper_agent.errors import ConfigError, DependencyError, ModelError
from steper_agent.retrieval.encoders import LangChainEncoder, Prefixes, SentenceEncoder, encoder_from, family, spec_of
from tests.steper_agent.retrieval.shelves import HashEncoder


class Recording(HashEncoder):
    """Keeps what it was given to read."""

    def __init__(self) -> None:
        super().__init__(8)
        self.read: list[list[str]] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.read.append(texts)
        return super().embed_documents(texts)


class Batching(Recording):
    def embed_queries(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)


class Saying(Embeddings):
    def __init__(self, vectors: Any) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> Any:  # noqa: ARG002
        return self.vectors

    def embed_query(self, text: str) -> Any:  # noqa: ARG002
        return self.vectors[0]

    def embed_queries(self, texts: list[str]) -> Any:  # noqa: ARG002
        return self.vectors


@given(st.lists(st.text("ab ", max_size=30), min_size=1, max_size=200))
def test_vectors_come_in_the_order_of_the_texts(texts: list[str]) -> None:
    encoder = encoder_from(HashEncoder(4))
    expected = np.concatenate([encoder.passages([text]) for text in texts])
    assert np.array_equal(encoder.passages(texts), expected)
    assert np.array_equal(encoder.queries(texts), expected)


@given(st.lists(st.text("ab ", max_size=9), min_size=1, max_size=9))
def test_vectors_have_length_one_or_are_zero(texts: list[str]) -> None:
    lengths = np.linalg.norm(encoder_from(HashEncoder(4)).passages(texts), axis=1)
    assert lengths == pytest.approx([1.0 if text.split() else 0.0 for text in texts], abs=1e-5)


def test_texts_of_like_length_share_a_batch() -> None:
    inner = Recording()
    encoder_from(inner).passages(["x" * (at * 37 % 200) for at in range(200)])
    lengths = [len(text) for batch in inner.read for text in batch]
    assert lengths == sorted(lengths)
    assert len(inner.read) == 4


def test_prefixes_stand_before_passages_and_queries() -> None:
    inner = Batching()
    encoder = encoder_from(inner, Prefixes(query="q: ", passage="p: "))
    encoder.passages(["a"])
    encoder.queries(["a", "b"])
    assert inner.read == [["p: a"], ["q: a", "q: b"]]


def test_queries_without_a_batch_call_are_asked_one_by_one_as_the_encoder_reads_queries() -> None:
    class Asymmetric(HashEncoder):
        def embed_query(self, text: str) -> list[float]:
            return super().embed_query(f"asked {text}")

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [HashEncoder.embed_query(self, text) for text in texts]

    encoder = encoder_from(Asymmetric(8))
    assert np.array_equal(encoder.queries(["a", "b"]), encoder.passages(["asked a", "asked b"]))


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("intfloat/e5-base-v2", Prefixes(query="query: ", passage="passage: ")),
        ("models/multilingual-E5-small", Prefixes(query="query: ", passage="passage: ")),
        ("intfloat/multilingual-e5-large-instruct", Prefixes()),
        ("BAAI/bge-small-en-v1.5", Prefixes(query="Represent this sentence for searching relevant passages: ")),
        ("BAAI/bge-m3", Prefixes()),
        ("nomic-embed-text", Prefixes(query="search_query: ", passage="search_document: ")),
        ("sentence-transformers/all-MiniLM-L6-v2", Prefixes()),
    ],
)
def test_the_prefixes_of_a_family_are_known(name: str, prefixes: Prefixes) -> None:
    assert family(name) == prefixes


@pytest.mark.parametrize(
    "vectors",
    [[1.0, 2.0], [[1.0], [float("nan")]], [[1.0], [1.0, 2.0]], [["a"], ["b"]], [[1.0]], [[1.0]] * 3],
    ids=["flat", "nan", "ragged", "words", "few", "many"],
)
def test_what_is_not_a_vector_of_numbers_for_each_text_is_an_error(vectors: Any) -> None:
    with pytest.raises(ConfigError, match="a vector of numbers for each text"):
        encoder_from(Saying(vectors)).passages(["a", "b"])
    with pytest.raises(ConfigError, match="a vector of numbers for each text"):
        encoder_from(Saying(vectors)).queries(["a", "b"])


class Unlucky(HashEncoder):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise LookupError(f"{len(texts)} are too many")

    def embed_query(self, text: str) -> list[float]:
        raise LookupError(f"not {text}")


def test_what_a_provider_raises_over_passages_is_an_error_with_its_cure_and_over_a_query_its_own() -> None:
    encoder = LangChainEncoder(Unlucky(), "openai:small", Prefixes())
    with pytest.raises(ModelError, match="the encoder failed: LookupError: 2 are too many") as bad:
        encoder.passages(["a", "b"])
    assert bad.value.where == "openai:small"
    assert isinstance(bad.value.__cause__, LookupError)
    with pytest.raises(LookupError, match="not a"):
        encoder.queries(["a"])


@pytest.mark.parametrize("spec", ["", "minilm", "sentence-transformers:", ":x", "nobody:knows"])
def test_an_unknown_encoder_is_an_error_with_its_cure(spec: str) -> None:
    with pytest.raises(ConfigError, match="sentence-transformers:NAME or PROVIDER:NAME"):
        encoder_from(spec)


@pytest.mark.parametrize(
    ("package", "spec", "extra"),
    [
        ("sentence_transformers", "sentence-transformers:x", "encoders"),
        ("langchain.embeddings", "openai:x", "langchain"),
    ],
)
def test_a_missing_package_is_named(package: str, spec: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with pytest.raises(DependencyError, match=rf"steper-agent\[{extra}\]"):
        encoder_from(spec)


def test_a_provider_is_opened_by_name_and_wants_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="set OPENAI_API_KEY"):
        encoder_from("openai:text-embedding-3-small")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    encoder = encoder_from("openai:text-embedding-3-small")
    assert isinstance(encoder, LangChainEncoder)
    assert encoder.spec == "openai:text-embedding-3-small"


def test_a_spec_says_where_an_encoder_comes_from() -> None:
    assert spec_of("a:b") == "a:b"
    assert spec_of(HashEncoder()) == "object:tests.steper_agent.retrieval.shelves.HashEncoder"
    assert spec_of(encoder_from(HashEncoder())) == spec_of(HashEncoder())
    assert encoder_from(encoder := encoder_from(HashEncoder())) is encoder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    from tests.steper_agent.retrieval.tiny_encoders import tiny_encoder

    return tiny_encoder(tmp_path_factory.mktemp("tiny"), {"query": "query : ", "passage": "passage : "})


def test_a_sentence_model_is_opened_by_path_and_reads_its_own_prompts(tiny: Path) -> None:
    encoder = encoder_from(f"sentence-transformers:{tiny}")
    assert encoder.spec == f"sentence-transformers:{tiny}"
    assert encoder.prefixes == Prefixes(query="query : ", passage="passage : ")
    bare = encoder_from(f"sentence-transformers:{tiny}", Prefixes())
    texts = ["a b c", "d", "x y z a b"]
    assert encoder.queries(texts) == pytest.approx(bare.queries([f"query : {text}" for text in texts]), abs=1e-5)
    assert encoder.passages(texts) == pytest.approx(bare.queries([f"passage : {text}" for text in texts]), abs=1e-5)
    assert np.abs(encoder.passages(texts) - bare.passages(texts)).max() > 0.01


def test_a_batch_of_a_sentence_model_is_its_texts_one_by_one_also_from_threads(tiny: Path) -> None:
    encoder = encoder_from(f"sentence-transformers:{tiny}")
    texts = [" ".join("abcdefgh"[at % 8 :]) for at in range(30)]
    together = encoder.queries(texts)
    assert together.shape == (30, 16)
    with ThreadPoolExecutor(4) as pool:
        alone = np.concatenate(list(pool.map(lambda text: encoder.queries([text]), texts)))
    assert together == pytest.approx(alone, abs=1e-5)


def test_weights_that_would_have_to_be_unpickled_are_refused(tiny: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file

    unsafe = Path(shutil.copytree(tiny, tmp_path / "unsafe"))
    torch.save(load_file(unsafe / "model.safetensors"), unsafe / "pytorch_model.bin")
    (unsafe / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        SentenceEncoder(str(unsafe))


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="give a model folder or a hub name"):
        encoder_from(f"sentence-transformers:{tmp_path}")
