"""A sentence-transformers model as a LangChain encoder; importing this module imports sentence-transformers."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings
from sentence_transformers import SentenceTransformer

from steper_agent.errors import ModelError


class SentenceEncoder(Embeddings):
    """Weights from safetensors only, no code from the model's folder; query and passage prompts as it states them."""

    def __init__(self, name: str) -> None:
        self.spec = f"sentence-transformers:{name}"
        try:
            self._model = SentenceTransformer(name, trust_remote_code=False, model_kwargs={"use_safetensors": True})
        except (OSError, ValueError) as bad:
            raise ModelError(
                f"the encoder cannot be loaded: {bad}", where=self.spec, fix="give a model folder or a hub name"
            ) from bad

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._rows(self._model.encode_document(texts, show_progress_bar=False, normalize_embeddings=True))

    def embed_query(self, text: str) -> list[float]:
        return self._rows(self._model.encode_query([text], show_progress_bar=False, normalize_embeddings=True))[0]

    @staticmethod
    def _rows(vectors: object) -> list[list[float]]:
        return [[float(number) for number in row] for row in vectors]  # type: ignore[attr-defined]
