"""Who is this base model: one hash over its shape, its tokenizer and its weights. A student names its base by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steper_agent.durable import digest, digest_file
from steper_agent.errors import ModelError

FACTS = (
    "architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings", "max_position_embeddings",
)  # fmt: skip
"""What a config says about computation; versions and paths in it say nothing and are left out."""


def base_fingerprint(path: str | Path) -> str:
    """SHA-256 in hex. Reads every weight file once; nothing is cached on disk."""
    folder = Path(path)
    config = read_config(folder)
    tokenizer = folder / "tokenizer.json"
    return digest({
        "config": {fact: config.get(fact) for fact in FACTS},
        "tokenizer": digest_file(tokenizer) if tokenizer.is_file() else None,
        "weights": {file.name: digest_file(file) for file in weight_files(folder)},
    })  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json."""
    if not folder.is_dir():
        raise ModelError("no such model folder", where=folder, fix="give the folder that holds config.json")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise ModelError(
            "the folder has no config.json", where=folder, fix="give a folder saved with save_pretrained()"
        ) from missing
    except ValueError as broken:
        raise ModelError("config.json is not JSON", where=folder, fix="save the model again") from broken
    if not isinstance(config, dict):
        raise ModelError("config.json is not a table", where=folder, fix="save the model again")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The model's safetensors files, by name; none is an error, since nothing else is ever loaded."""
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_"))
    if files:
        return files
    pickled = sorted(file.name for suffix in ("bin", "pt", "pth", "ckpt") for file in folder.glob(f"*.{suffix}"))
    what = f"weights are pickled ({', '.join(pickled)}); a pickle can run code" if pickled else "no weights here"
    raise ModelError(
        what, where=folder, fix="save as safetensors: model.save_pretrained(folder, safe_serialization=True)"
    )
