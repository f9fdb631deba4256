"""Random models of a few thousand weights that are real sentence-transformers models in every other respect."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", "passage", ":", *"abcdefghijklmnopqrstuvwxyz"]


def tiny_encoder(folder: Path, prompts: dict[str, str] | None = None) -> Path:
    """A sentence encoder of 16 numbers; it knows the letters, one token each."""
    from sentence_transformers import SentenceTransformer

    plain = folder / "plain"
    _save(BertModel, plain)
    SentenceTransformer(str(plain), prompts=prompts).save(str(folder / "encoder"), create_model_card=False)
    return folder / "encoder"


def tiny_cross_encoder(folder: Path, labels: int = 1) -> Path:
    _save(BertForSequenceClassification, folder, num_labels=labels)
    return folder


def _save(kind: type[BertModel | BertForSequenceClassification], folder: Path, **settings: int) -> None:
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5, **settings,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    inner = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **special).save_pretrained(folder)
