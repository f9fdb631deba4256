"""First weights from which a small model learns to look things up within minutes instead of hours.

Looking up a fact is induction: find where a name stood before and say what came after it (Olsson et al. 2022,
"In-context Learning and Induction Heads"). From random weights the heads that do it appear late and suddenly; here
attention begins near them, as in mimetic initialisation (Trockman and Kolter 2023), and training shapes the rest.

  layer 0          every head looks a fixed distance back and writes what it finds into a subspace of its own
  layers 1 and 2   two heads each look for places whose subspace holds the present token, and copy what stands there
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

EMBEDDING_STD = 0.1
"""Large enough that rare names stay apart while common tokens move."""
DISTANCES = (1, 2, 3, 4)
"""How far back each head of layer 0 looks: a name is two tokens, a relation's words three."""
LOOKING_BACK = 5.0
"""Size of the biases that make a head look at a distance, and the rotary pairs that carry them."""
PAIRS = 6
MATCHING = 2.0
"""Size of a matching head's queries and keys."""
MATCHERS = ((1, 2, 0), (1, 3, 1), (2, 0, 0), (2, 1, 1))
"""(layer, head, the head of layer 0 whose subspace it searches)."""


@torch.no_grad()
def prepare(model: LlamaForCausalLM) -> None:
    """Set the first weights in place. The model has four heads of equal width and at least three layers."""
    layers, width = model.model.layers, model.config.hidden_size
    head = width // model.config.num_attention_heads
    model.model.embed_tokens.weight.normal_(0.0, EMBEDDING_STD)
    for layer in layers[1:]:
        _compare_alike(layer.self_attn, head)
    subspaces = [_look_back(layers[0].self_attn, number, distance, model.config) for number, distance in enumerate(DISTANCES)]
    for layer, number, source in MATCHERS:
        _match(layers[layer].self_attn, number, *subspaces[source])


def _compare_alike(attention: Any, head: int) -> None:
    """Queries and keys of a head begin equal, so that like attends to like; fast rotary pairs, which carry position
    rather than content, begin small."""
    width = attention.q_proj.in_features
    for start in range(0, width, head):
        shared = torch.randn(head, width) / math.sqrt(width)
        shared[:PAIRS] *= 0.3
        shared[head // 2 : head // 2 + PAIRS] *= 0.3
        attention.q_proj.weight[start : start + head] = shared
        attention.k_proj.weight[start : start + head] = shared


def _look_back(attention: Any, number: int, distance: int, config: Any) -> tuple[Tensor, Tensor]:
    """Rotary attention between constant vectors depends on the distance alone: sum of cos(θ_i (Δ - distance)).

    Returns what the head reads (head, width) and the subspace it writes to (width, head)."""
    width, heads = config.hidden_size, config.num_attention_heads
    head, theta = width // heads, config.rope_parameters["rope_theta"]
    at = number * head
    for pair in range(PAIRS):
        angle = theta ** (-2 * pair / head) * distance
        attention.q_proj.bias[at + pair] = LOOKING_BACK
        attention.k_proj.bias[at + pair] = LOOKING_BACK * math.cos(angle)
        attention.k_proj.bias[at + head // 2 + pair] = LOOKING_BACK * math.sin(angle)
    read, write = _orthonormal(width, head).T, _orthonormal(width, head)
    attention.v_proj.weight[at : at + head] = read
    attention.o_proj.weight[:, at : at + head] = write * EMBEDDING_STD
    return read, write


def _match(attention: Any, number: int, read: Tensor, wrote: Tensor) -> None:
    """Search for places before which the present token stood, and copy the token there."""
    head = read.shape[0]
    rows = slice(number * head, (number + 1) * head)
    attention.q_proj.weight[rows] = read * MATCHING
    attention.k_proj.weight[rows] = wrote.T * MATCHING
    copied = _orthonormal(read.shape[1], head)
    attention.v_proj.weight[rows] = copied.T
    attention.o_proj.weight[:, rows] = copied * EMBEDDING_STD


def _orthonormal(rows: int, columns: int) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(rows, columns))[0]
    return basis
