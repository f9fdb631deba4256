"""The model that is to become a student: the base, an adapter on it if wanted, and whether it takes token trees."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from steper_agent.errors import ConfigError
from steper_agent.records import Example
from training.trees.pieces import Packing
from training.trees.support import prepare_for_trees


def open_for_training(base: Path) -> Any:
    """The base with its weights in float32, from safetensors only."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32")


def with_adapter(model: Any, rank: int, alpha: int) -> Any:
    """LoRA on all linear layers but the head. Dropout would make a student depend on how its examples were packed."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora)


def packing_for(model: Any, wanted: str, trajectories: Iterable[list[Example]]) -> tuple[Packing, str]:
    """Trees where they are wanted and the model's loss over them is exact; else rows, and why.

    Raises:
        ConfigError: nothing but trees will do, and they cannot be had.
    """
    if wanted == "rows":
        return "rows", ""
    longest = max(len(example.ids) for trajectory in trajectories for example in trajectory)
    reason = prepare_for_trees(model, longest, "cuda" if torch.cuda.is_available() else "cpu")
    if reason and wanted == "trees":
        raise ConfigError(f"token trees cannot be exact: {reason}", where="packing", fix="--packing rows, which trains on every example by itself")
    return ("rows", reason) if reason else ("trees", "")
