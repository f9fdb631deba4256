"""A model folder becomes a model and a tokenizer: safetensors only, no remote code, nothing fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import DependencyError, ModelError
from steper_agent.students.fingerprint import read_config, weight_files

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:\n{{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""For a tokenizer that has no chat template of its own: `Role:`, the content and a blank line, and at last `Assistant:`."""


class Vocabulary(NamedTuple):
    """What a model folder says about text and token ids, its weights unread."""

    tokenizer: Any
    size: int
    """Token ids the model has embeddings for."""
    ends: frozenset[int]
    """Ids that end a turn."""
    pad: int
    window: int | None
    """Most tokens of prompt and answer together; None where the architecture sets no bound."""


class Loaded(NamedTuple):
    model: Any
    vocabulary: Vocabulary


def open_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a folder, always with a chat template: runtime and trainer both open it here."""
    read_config(Path(path))
    try:
        from transformers import AutoTokenizer
    except ImportError as missing:
        raise DependencyError(
            "local models need torch and transformers", where=path, fix="pip install 'steper-agent[train]'"
        ) from missing
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as broken:
        raise ModelError(
            f"the tokenizer cannot be read: {broken}", where=path, fix="save it beside the model: save_pretrained()"
        ) from broken
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def open_vocabulary(path: str | Path) -> Vocabulary:
    """Everything that turns text into ids and back for the model in this folder."""
    tokenizer = open_tokenizer(path)
    from transformers import AutoConfig, GenerationConfig

    try:
        config: Any = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as broken:
        raise ModelError(f"the model's config cannot be read: {broken}", where=path, fix="save it again: save_pretrained()") from broken
    config = config.get_text_config()
    ends = [config.eos_token_id, tokenizer.eos_token_id]
    if (Path(path) / "generation_config.json").is_file():
        generation: Any = GenerationConfig.from_pretrained(str(path), local_files_only=True)
        ends.append(generation.eos_token_id)
    all_ends = frozenset(token for end in ends for token in (end if isinstance(end, list) else [end]) if token is not None)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(all_ends, default=0)
    return Vocabulary(tokenizer, config.vocab_size, all_ends, pad, getattr(config, "max_position_embeddings", None))


def same_vocabulary(one: Any, other: Any) -> str:
    """Why the token ids of two tokenizers do not mean the same; empty if they do.

    Sizes of embeddings say nothing: families pad them differently (151,936 and 152,064 rows for one vocabulary). An id that only
    one of them knows is no difference where it is of a token added to the vocabulary, as chat markup is.
    """
    ours, theirs = ({id: token for token, id in tokenizer.get_vocab().items()} for tokenizer in (one, other))
    added = {*one.get_added_vocab().values(), *other.get_added_vocab().values()}
    for id in sorted(ours.keys() | theirs.keys()):
        mine, yours = ours.get(id), theirs.get(id)
        if mine != yours and (id not in added or None not in (mine, yours)):
            return f"token {id} is {mine!r} in one and {yours!r} in the other"
    return ""


def open_base(path: str | Path, *, dtype: Any = None, device: Any = None) -> Loaded:
    """Load for inference. Default: bfloat16 on the GPU where there is one, else float32 on the CPU."""
    vocabulary = open_vocabulary(path)
    import torch
    from transformers import GenerationConfig

    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = _read_model(Path(path), dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16))
    model = model.to(device).eval().requires_grad_(False)
    # `generate` fills what it is not told from here: a checkpoint's sampling settings would bend greedy decoding.
    neutral: Any = GenerationConfig
    model.generation_config = neutral()
    return Loaded(model, vocabulary)


def _read_model(folder: Path, dtype: Any) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    weight_files(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as broken:
        raise ModelError(
            f"the model cannot be loaded: {str(broken)[:500]}", where=folder, fix="check that the folder is complete"
        ) from broken
    model, report = loaded
    if report["missing_keys"]:
        # transformers would fill them with random numbers and only warn.
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"weights are missing: {some}", where=folder, fix="copy or save the whole model again")
    return model
