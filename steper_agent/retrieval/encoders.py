"""Texts to unit vectors: sentence-transformers models, LangChain's providers by name, and any LangChain Embeddings object."""

from __future__ import annotations

import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from steper_agent.errors import ConfigError, DependencyError, ModelError, StepERError
from steper_agent.models.spec import KEYS
from steper_agent.records import Passage, Record

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

PREFIX = "sentence-transformers:"
BATCH = 64
"""Texts in one call of a provider, or of a GPU."""
CPU_BATCH = 16
"""Texts of like length that a CPU reads together: what they need still lies in its caches, and little is padding. Of 64 questions, MiniLM
reads 303 a second so, and 203 as one batch; of passages 77 and 61."""


class Prefixes(Record):
    """What an encoder was trained to read before a text."""

    query: str = ""
    passage: str = ""


_FAMILIES = (
    (re.compile(r"\be5-(small|base|large)(?!.*instruct)"), Prefixes(query="query: ", passage="passage: ")),
    (
        re.compile(r"\bbge-(small|base|large)-en"),
        Prefixes(query="Represent this sentence for searching relevant passages: "),
    ),
    (re.compile(r"\bnomic-embed-text"), Prefixes(query="search_query: ", passage="search_document: ")),
)


class Encoder(ABC):
    """Texts in, vectors of length one out: float32, one row a text. A zero vector stays zero and matches nothing."""

    def __init__(self, spec: str, prefixes: Prefixes) -> None:
        self.spec = spec
        self.prefixes = prefixes

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dimension). Raises ConfigError where the encoder does not make a vector of each, ModelError where its provider
        fails."""
        return _unit(self._passages(list(texts)), len(texts), self.spec)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dimension). Raises ConfigError where the encoder does not make a vector of each, and what its provider does."""
        return _unit(self._queries(list(texts)), len(texts), self.spec)

    @abstractmethod
    def _passages(self, texts: list[str]) -> Any: ...

    @abstractmethod
    def _queries(self, texts: list[str]) -> Any: ...


class LangChainEncoder(Encoder):
    """Any Embeddings object. Several queries are one call where it has `embed_queries(texts)`, else a call each."""

    def __init__(self, embeddings: Embeddings, spec: str, prefixes: Prefixes) -> None:
        super().__init__(spec, prefixes)
        self._embeddings = embeddings

    def _passages(self, texts: list[str]) -> Any:
        # Texts of like length share a batch, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        made: list[Any] = [None] * len(texts)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            with reaching("the encoder", self.spec):
                vectors = self._embeddings.embed_documents([self.prefixes.passage + texts[at] for at in batch])
            if len(vectors) != len(batch):
                raise _no_vectors(self.spec)
            for at, vector in zip(batch, vectors, strict=True):
                made[at] = vector
        return made

    def _queries(self, texts: list[str]) -> Any:
        asked = [self.prefixes.query + text for text in texts]
        if many := getattr(self._embeddings, "embed_queries", None):
            return many(asked)
        return [self._embeddings.embed_query(text) for text in asked]


class SentenceEncoder(Encoder):
    """A sentence-transformers model: weights from safetensors only, no code from its folder, on a GPU where torch has one.

    Prefixes are the given ones, else those the model states itself, else its family's.
    """

    def __init__(self, name: str, prefixes: Prefixes | None = None) -> None:
        self._model = sentence_model("SentenceTransformer", name, PREFIX + name)
        own = _stated(self._model.prompts)
        super().__init__(PREFIX + name, prefixes or (own if own != Prefixes() else family(name)))
        # Its tokenizer changes its own settings in every call.
        self._lock = threading.Lock()
        self._batch = CPU_BATCH if self._model.device.type == "cpu" else BATCH

    def _passages(self, texts: list[str]) -> Any:
        return self._encode(self._model.encode_document, texts, self.prefixes.passage)

    def _queries(self, texts: list[str]) -> Any:
        return self._encode(self._model.encode_query, texts, self.prefixes.query)

    def _encode(self, encode: Any, texts: list[str], prefix: str) -> Any:
        with self._lock:
            return encode(texts, prompt=prefix, batch_size=self._batch, show_progress_bar=False, convert_to_numpy=True)


@contextmanager
def reaching(what: str, where: object) -> Iterator[None]:
    """A provider's client may raise anything: in here it is an error that a person can act on.

    The searches of a graph go without: there a failure that passes is tried again, and another is that question's alone.

    Raises:
        ModelError: it failed.
    """
    try:
        yield
    except StepERError:
        raise
    except Exception as bad:
        raise ModelError(
            f"{what} failed: {type(bad).__name__}: {bad}",
            where=where,
            fix="check the encoder's name, its key and its address",
        ) from bad


def encoder_from(encoder: str | Embeddings | Encoder, prefixes: Prefixes | None = None) -> Encoder:
    """The encoder that a spec names or an object is.

    `sentence-transformers:NAME_OR_PATH`, or `PROVIDER:NAME` as LangChain's `init_embeddings` knows them.

    Raises:
        ConfigError: the spec is not of this form, or names no provider.
        DependencyError: a package that it needs is missing.
        ModelError: the model cannot be loaded.
    """
    if isinstance(encoder, Encoder):
        return encoder
    if not isinstance(encoder, str):
        return LangChainEncoder(encoder, spec_of(encoder), prefixes or Prefixes())
    kind, _, name = encoder.partition(":")
    if not kind or not name:
        raise _unknown(encoder, "it names no model")
    if encoder.startswith(PREFIX):
        return SentenceEncoder(name, prefixes)
    return LangChainEncoder(_provided(encoder, kind), encoder, prefixes or family(name))


def spec_of(encoder: str | Embeddings | Encoder) -> str:
    """How the manifest names an encoder."""
    if isinstance(encoder, str):
        return encoder
    spec = getattr(encoder, "spec", None)
    return str(spec) if spec else f"object:{type(encoder).__module__}.{type(encoder).__qualname__}"


def family(name: str) -> Prefixes:
    """The prefixes of a known family of encoders, told from the model's name; none where it is not known."""
    return next((prefixes for pattern, prefixes in _FAMILIES if pattern.search(name.lower())), Prefixes())


def shown(passage: Passage) -> str:
    """What the encoder reads of a passage."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def sentence_model(kind: str, name: str, spec: str) -> Any:
    """An instance of that class of sentence-transformers: local files first, safetensors only, no remote code.

    Raises:
        DependencyError: sentence-transformers is missing.
        ModelError: the model cannot be loaded.
    """
    try:
        import sentence_transformers
    except ImportError as missing:
        raise DependencyError(
            f"this model needs sentence-transformers ({missing})",
            where=spec,
            fix="pip install 'steper-agent[encoders]', or do without: --mode bm25",
        ) from missing
    load = partial(
        getattr(sentence_transformers, kind), name, trust_remote_code=False, model_kwargs={"use_safetensors": True}
    )
    try:
        try:
            return load(local_files_only=True)
        except (OSError, ValueError):
            return load()
    except (OSError, ValueError) as bad:
        raise ModelError(
            f"the model cannot be loaded: {bad}", where=spec, fix="give a model folder or a hub name"
        ) from bad


def _stated(prompts: dict[str, str]) -> Prefixes:
    """A model's own prompts; the library knows three names for that of a passage."""
    passage = next((prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), "")
    return Prefixes(query=prompts.get("query") or "", passage=passage)


def _provided(spec: str, provider: str) -> Embeddings:
    key = KEYS.get(provider)
    if key and not os.environ.get(key):
        raise ModelError(f"{provider} wants a key", where=spec, fix=f"set {key} (any text for a local server)")
    try:
        from langchain.embeddings import init_embeddings
    except ImportError as missing:
        raise DependencyError(
            "an encoder of a provider needs langchain", where=spec, fix="pip install 'steper-agent[langchain]'"
        ) from missing
    try:
        made: Embeddings = init_embeddings(spec)
    except ImportError as missing:
        raise DependencyError(
            f"the provider's package is missing: {missing}", where=spec, fix="install the package that it names"
        ) from missing
    except ValueError as bad:
        raise _unknown(spec, str(bad).splitlines()[0]) from bad
    return made


def _unknown(spec: str, why: str) -> ConfigError:
    return ConfigError(
        f"unknown encoder {spec!r}: {why}",
        where="encoder",
        fix=f"write {PREFIX}NAME or PROVIDER:NAME, or pass a LangChain Embeddings object from Python",
    )


def _no_vectors(spec: str) -> ConfigError:
    return ConfigError(
        "the encoder did not make a vector of numbers for each text", where=spec, fix="check the encoder"
    )


def _unit(vectors: Any, count: int, spec: str) -> NDArray[np.float32]:
    import numpy as np

    try:
        rows = np.asarray(vectors, dtype=np.float32)
    except ValueError as bad:  # Words, or rows of several lengths.
        raise _no_vectors(spec) from bad
    if rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all():
        raise _no_vectors(spec)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)
