"""A larger model that says what a smaller one says: a start from which it learns on, instead of from nothing.

Every unit is there `copies` times, and what reads it divides its weight among the copies (Chen et al. 2016, "Net2Net"), unevenly, or
they would stay copies for ever. A new layer adds nothing at first (Bachlechner et al. 2021, "ReZero is All You Need").
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from steper_agent.errors import ConfigError

UNEVEN = 0.5
"""Standard deviation of a copy's part of a weight, relative to an even part."""


@torch.no_grad()
def grow(model: LlamaForCausalLM, *, width: int, layers: int, seed: int = 0) -> LlamaForCausalLM:
    """`model` as wide and deep as wanted; its logits are the same but for rounding.

    Raises:
        ConfigError: `width` is no multiple of the model's, `layers` are fewer than its own, or its input and output embeddings are two.
    """
    small = model.config
    copies, rest = divmod(width, small.hidden_size)
    if rest or copies < 1 or layers < small.num_hidden_layers:
        raise ConfigError(f"a model of width {small.hidden_size} and {small.num_hidden_layers} layers grows to a multiple of its width "
                          f"and to no fewer layers, not to {width} and {layers}", where="--width, --layers", fix="give such numbers, or leave them out")
    if not small.tie_word_embeddings:
        raise ConfigError("only a model whose input and output embeddings are one can grow", where="--start", fix="start from such a model")
    config = copy.deepcopy(small)
    config.update({"hidden_size": width, "num_hidden_layers": layers} | {
        name: getattr(small, name) * copies for name in ("intermediate_size", "num_attention_heads", "num_key_value_heads")})  # fmt: skip
    torch.manual_seed(seed)
    large = LlamaForCausalLM(config).to(model.dtype)
    large.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight.repeat(1, copies))
    # Input and output embeddings are one matrix: the sum over its copies is taken back here.
    large.model.norm.weight.copy_(model.model.norm.weight.repeat(copies) / copies)
    for old, new in zip(model.model.layers, large.model.layers, strict=False):
        _copy_layer(old, new, copies)
    for new in large.model.layers[small.num_hidden_layers :]:
        for last in (new.self_attn.o_proj, new.mlp.down_proj):
            for parameter in last.parameters():
                parameter.zero_()
    return large


def _copy_layer(old: Any, new: Any, copies: int) -> None:
    for name, module in old.named_modules():
        if isinstance(module, torch.nn.Linear):
            _share_out(module, new.get_submodule(name), copies)
    for name in ("input_layernorm", "post_attention_layernorm"):
        getattr(new, name).weight.copy_(getattr(old, name).weight.repeat(copies))


def _share_out(old: torch.nn.Linear, new: torch.nn.Linear, copies: int) -> None:
    """Every copy of an output is the sum over all copies of the inputs, each at a random part of the old weight."""
    parts = torch.randn(copies, old.out_features, copies, old.in_features) * UNEVEN / copies
    parts += 1 / copies - parts.mean(dim=2, keepdim=True)
    weight: Tensor = parts * old.weight[None, :, None, :]
    new.weight.copy_(weight.reshape(new.weight.shape))
    if old.bias is not None:
        new.bias.copy_(old.bias.repeat(copies))
