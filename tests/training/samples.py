"""Random examples that share what random prefixes share, and the smallest models to train on them."""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from steper_agent.records import KINDS, Example

VOCABULARY = 48
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "initializer_range": 0.2, "pad_token_id": 0,
    "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip


def random_examples(seed: int, count: int = 10, longest: int = 40) -> list[Example]:
    """Of a trie with branches of branches; some are the beginning of another, some are there twice."""
    rng = random.Random(seed)
    examples: list[Example] = []
    for _ in range(count):
        grown = rng.choice(examples).ids if examples and rng.random() < 0.8 else ()
        shared = grown[: rng.randint(0, len(grown))]
        ids = (*shared, *(rng.randrange(2, VOCABULARY) for _ in range(rng.randint(0 if len(shared) > 2 else 3, longest))))
        learn = [0] + [int(rng.random() < 0.4) for _ in ids[1:]]
        learn[rng.randrange(1, len(ids))] = 1
        examples.append(Example(trajectory=0, kind=rng.choice(KINDS), step=1, ids=ids, learn=tuple(learn), turn=1))
    return examples


def small_model(kind: str, seed: int = 0, **settings: Any) -> Any:
    """A random one of this `model_type`, in training mode."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **settings})).train()
