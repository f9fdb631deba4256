"""A model over whose trees the loss would be another one is refused by name, and left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.training.samples import small_model
from training.trees import support as tree_support
from training.trees.support import prepare_for_trees


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("mistral", {"sliding_window": 16}, "last 16 tokens only, and the longest example has 100"),
        ("gemma2", {}, "caps its attention scores"),
        ("llama", {"attention_dropout": 0.1}, "trains with dropout"),
        ("gpt2", {}, "trains with dropout"),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}, "trains with dropout"),
        ("mixtral", {"router_jitter_noise": 0.1}, "trains with dropout, or something else at random"),
        ("mamba", {}, "Mamba"),
        ("falcon_h1", {}, "FalconH1"),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(kind: str, settings: dict[str, Any], said: str) -> None:
    model = small_model(kind, **settings).eval()
    before = model.config._attn_implementation
    assert said in prepare_for_trees(model, longest=100)
    assert model.config._attn_implementation == before
    assert not any(module.training for module in model.modules())


def test_what_is_random_in_training_is_drawn_apart() -> None:
    model, before = small_model("gpt2"), torch.get_rng_state()
    assert prepare_for_trees(model, longest=100)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_window_that_is_wide_enough_is_none() -> None:
    assert prepare_for_trees(small_model("mistral", sliding_window=100), longest=100) == ""


def test_a_model_that_mixes_neighbours_is_found_out_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama")

    class Leaky(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden + hidden.roll(1, dims=1)

    model.model.layers[0].mlp = Leaky()
    assert "gives other logits over a tree" in prepare_for_trees(model, longest=100)
    monkeypatch.setattr(tree_support, "TOLERANCE", 10.0)
    assert prepare_for_trees(model, longest=100) == "", "it is the figures that refuse it"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that can")
def test_a_device_that_cannot_attend_over_trees_is_named_and_the_model_left_alone() -> None:
    model = small_model("llama")
    assert "FlexAttention does not run on cuda" in prepare_for_trees(model, longest=100, device="cuda")
    assert model.config._attn_implementation == "sdpa"


def test_what_a_device_computes_is_compared_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    attended = tree_support._attended
    monkeypatch.setattr(tree_support, "_attended", lambda device: attended("cpu") * (1 if device == "cpu" else 1.1))
    assert "computes something else" in prepare_for_trees(small_model("llama"), longest=100, device="cuda")
    monkeypatch.setattr(tree_support, "_attended", lambda _device: attended("cpu"))
    assert prepare_for_trees(small_model("llama"), longest=100, device="cuda") == ""
