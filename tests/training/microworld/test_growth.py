"""A grown model says what the small one said, and its copies do not stay copies."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from steper_agent.errors import ConfigError
from training.microworld.growth import grow

WIDTH, VOCABULARY = 16, 40


@pytest.fixture
def small() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, tie_word_embeddings=True, attention_bias=True)  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("width", "layers"), [(WIDTH, 2), (2 * WIDTH, 2), (3 * WIDTH, 5), (WIDTH, 4)])
def test_the_logits_stay_the_same(small: LlamaForCausalLM, ids: torch.Tensor, width: int, layers: int) -> None:
    large = grow(small, width=width, layers=layers)
    assert (large.config.hidden_size, len(large.model.layers)) == (width, layers)
    with torch.no_grad():
        torch.testing.assert_close(large(ids).logits, small(ids).logits, rtol=1e-4, atol=1e-4)


def test_every_weight_learns_and_copies_part(small: LlamaForCausalLM, ids: torch.Tensor) -> None:
    large = grow(small, width=2 * WIDTH, layers=3)
    large(ids, labels=ids).loss.backward()
    for name, parameter in large.named_parameters():
        if "layers.2" not in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    assert large.model.layers[2].mlp.down_proj.weight.grad is not None
    assert large.model.layers[2].mlp.down_proj.weight.grad.abs().sum() > 0
    first, second = large.model.layers[0].mlp.gate_proj.weight.grad.chunk(2)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(("width", "layers"), [(WIDTH + 4, 2), (WIDTH // 2, 2), (-WIDTH, 2), (2 * WIDTH, 1)])
def test_a_model_does_not_shrink_nor_grow_by_a_part(small: LlamaForCausalLM, width: int, layers: int) -> None:
    with pytest.raises(ConfigError, match="grows to a multiple of its width"):
        grow(small, width=width, layers=layers)


def test_two_matrices_of_embeddings_are_refused(small: LlamaForCausalLM) -> None:
    small.config.tie_word_embeddings = False
    with pytest.raises(ConfigError, match="input and output embeddings are one"):
        grow(small, width=2 * WIDTH, layers=2)
