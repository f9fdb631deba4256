"""Make an untrained base: python -m training.fresh --corpus corpus.jsonl --out DIR

A Qwen2-shaped model of about the asked size with a byte-level BPE made from the corpus: for trying the trainer on any
text without a download. It knows nothing; `distill --method full` trains it from there.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from steper_agent.config import Config, command_line
from steper_agent.errors import ConfigError, DataError

CONTEXT = 8192
"""Positions the model has."""
SAMPLE = 20_000
"""Passages the vocabulary is made from."""
HEAD = 32
"""Width of an attention head; a model's width is a multiple of it."""


class FreshConfig(Config):
    corpus: Path = Field(description="passages: a JSONL of id, title, text, or anything `steper index build` reads")
    out: Path = Field(description="folder for the model and its tokenizer")
    parameters: str = Field("5M", description="about how many, as 5M or 500K or 1B")
    vocabulary: int = Field(4096, ge=300, description="tokens of the byte-level BPE")
    seed: int = Field(0, description="of the weights")


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(FreshConfig, "fresh", __doc__ or "", argv)
    print(f"{make(config):,} parameters written to {config.out}")
    return 0


def make(config: FreshConfig) -> int:
    """Write the model folder; returns how many parameters it has."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

    from steper_agent.retrieval import read_passages
    from training.microworld.tokenizer import make_tokenizer
    from training.verb import quiet_libraries

    wanted = parse_count(config.parameters)
    quiet_libraries()
    texts = [f"{p.title}: {p.text}" for p in itertools.islice(read_passages(config.corpus), SAMPLE)]
    if not texts:
        raise DataError("the corpus is empty", where=config.corpus, fix="give a corpus with passages")
    config.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(texts, vocabulary=config.vocabulary, like=Qwen2Tokenizer())
    layers, width = shape_for(wanted, len(tokenizer))
    torch.manual_seed(config.seed)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=width // HEAD, num_key_value_heads=width // HEAD, max_position_embeddings=CONTEXT,
        tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None, use_cache=True,
    ))  # fmt: skip
    model.save_pretrained(config.out)
    tokenizer.save_pretrained(config.out)
    return sum(parameter.numel() for parameter in model.parameters())


def shape_for(parameters: int, vocabulary: int) -> tuple[int, int]:
    """Layers and width whose model comes nearest to `parameters`, about 40 wide for each layer."""

    def size(layers: int, width: int) -> int:
        return vocabulary * width + layers * 13 * width * width

    def unfitness(shape: tuple[int, int]) -> tuple[bool, float]:
        layers, width = shape
        return abs(size(layers, width) / parameters - 1) > 0.1, abs(width / layers - 40)

    shapes = [(layers, width) for layers in range(2, 49) for width in range(HEAD, 4097, HEAD)]
    near = min(shapes, key=unfitness)
    return near if not unfitness(near)[0] else min(shapes, key=lambda shape: abs(size(*shape) / parameters - 1))


def parse_count(text: str) -> int:
    """`5M` → 5,000,000."""
    scale = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}.get(text[-1:].upper(), 0)
    try:
        count = int(float(text[:-1]) * scale) if scale else int(text)
    except (ValueError, OverflowError):
        count = 0
    if count <= 0:
        raise ConfigError(f"`{text}` is no number of parameters", where="parameters", fix="write it as 5M, 500K or 1B")
    return count


if __name__ == "__main__":
    from training.verb import run

    sys.exit(run(main))
