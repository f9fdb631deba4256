"""Does this adapter fit this base? Read from the file's own header, before any library loads it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import AdapterError
from steper_agent.students.fingerprint import read_config

Shapes = Mapping[str, tuple[int, ...]]
"""Module name → shape of its weight, (out, in)."""

PREFIX = "base_model.model."
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
REFUSED = (
    "use_dora", "modules_to_save", "layer_replication", "megatron_config", "trainable_token_indices", "auto_mapping",
    "target_parameters", "lora_bias", "alora_invocation_tokens", "arrow_config", "eva_config", "corda_config",
    "loftq_config",
)  # fmt: skip
"""LoRA options that change the base, import code, or that serving engines do not take."""


class Limits(NamedTuple):
    """What a serving engine takes where that is less than plain LoRA. All of them take one rank and one scale."""

    rank: int
    """The largest: vLLM's `--max-lora-rank`."""
    targets: frozenset[str] | None = None
    """Last parts of the names of the modules it can adapt (`q_proj`); None: of all."""


def weight_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of every module weight of a transformers model."""
    return {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if getattr(module, "weight", None) is not None
    }


def base_shapes(base: str | Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a base on disk, from its config alone: no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    read_config(Path(base))
    config = AutoConfig.from_pretrained(str(base), local_files_only=True, trust_remote_code=False)
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return weight_shapes(build(config))


def check_adapter(folder: Path, shapes: Shapes | None, limits: Limits | None = None) -> None:
    """Refuse an adapter that is not plain LoRA in safetensors, does not fit these shapes or limits, or holds NaN or Inf.
    Without shapes its base is not asked."""
    config = _plain_lora(folder)
    found = _read_tensors(folder / ADAPTER_WEIGHTS)
    if not found:
        raise AdapterError("the adapter holds no tensors", where=folder, fix="train and save it again")
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in found.items():
        module, _, side = name.removeprefix(PREFIX).partition(".lora_")
        if not name.startswith(PREFIX) or side not in ("A.weight", "B.weight", "embedding_A", "embedding_B"):
            raise AdapterError(f"tensor `{name}` is not a LoRA matrix", where=folder, fix="save a plain LoRA adapter")
        pairs.setdefault(module, {})[side] = shape
    for module, pair in pairs.items():
        _fit(folder, module, pair, shapes, None if config.get("rank_pattern") else config.get("r"))
        _is_target(folder, module, config.get("target_modules"))
    if limits:
        _within(folder, config, pairs, limits)


def check_full(folder: Path, shapes: Shapes | None) -> None:
    """Refuse full weights with a tensor that the base has not, or has in another shape, or with NaN or Inf. Without shapes the base
    is not asked. What a tied model leaves out is not missed."""
    for file in sorted(folder.glob("*.safetensors")):
        for name, shape in _read_tensors(file).items():
            expected = shape if shapes is None else shapes.get(name.removesuffix(".weight"))
            if name.endswith(".weight") and shape != expected:
                raise _misfit(folder, f"tensor `{name}` is {shape}, the base has {expected or 'none of that name'}")


def count_parameters(folder: Path) -> int:
    """Numbers in all safetensors files of a model or adapter folder, from their headers. A tied matrix counts once."""
    from safetensors import safe_open

    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


def _fit(
    folder: Path, module: str, pair: dict[str, tuple[int, ...]], shapes: Shapes | None, rank: int | None
) -> None:
    base = None if shapes is None else shapes.get(module)
    if shapes is not None and base is None:
        raise _misfit(folder, f"the base has no module `{module}`")
    embedding = "embedding_A" in pair
    sides = ("embedding_A", "embedding_B") if embedding else ("A.weight", "B.weight")
    a, b = (pair.get(side) for side in sides)
    if a is None or b is None or len(pair) != 2 or len(a) != 2 or len(b) != 2:
        raise AdapterError(f"`{module}` lacks one of its two LoRA matrices", where=folder, fix="save the adapter again")
    if a[0] != b[1] or (rank is not None and a[0] != rank):
        raise AdapterError(f"`{module}` has ranks {a[0]} and {b[1]}, its config says {rank}", where=folder,
                           fix="save the adapter again")  # fmt: skip
    if base is None:
        return
    outer, inner = (base[1], base[0]) if embedding else (base[0], base[-1])
    if (b[0], a[1]) != (outer, inner):
        raise _misfit(folder, f"`{module}` maps {a[1]} numbers to {b[0]}, in the base {inner} to {outer}")


def _is_target(folder: Path, module: str, targets: Any) -> None:
    """PEFT leaves out what its config does not name, vLLM takes all there is: one student would be two."""
    if isinstance(targets, list) and not any(module == name or module.endswith(f".{name}") for name in targets):
        raise AdapterError(f"`{module}` is not among its target_modules", where=folder, fix="save the adapter again")


def _within(folder: Path, config: dict[str, Any], modules: Iterable[str], limits: Limits) -> None:
    # vLLM reads neither: it would scale every module by the one r and lora_alpha, and say nothing.
    uneven = [option for option in ("rank_pattern", "alpha_pattern") if config.get(option)]
    if uneven:
        raise AdapterError(f"the server takes no {' and no '.join(uneven)}", where=folder, fix="train with one rank and alpha")
    if config["r"] > limits.rank:
        raise AdapterError(f"rank {config['r']} is more than the server's {limits.rank}", where=folder,
                           fix=f"start the server with room for rank {config['r']} (vLLM: --max-lora-rank), or train a smaller one")
    odd = [name for name in modules if limits.targets is not None and name.rpartition(".")[2] not in limits.targets]
    if odd:
        raise AdapterError(f"the server cannot adapt `{odd[0]}`", where=folder,
                           fix=f"train an adapter on {', '.join(sorted(limits.targets or ()))} only")


def _misfit(folder: Path, what: str) -> AdapterError:
    return AdapterError(f"made for another base: {what}", where=folder, fix="use the base named in the student's card")


def _plain_lora(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as broken:
        raise AdapterError(f"{ADAPTER_CONFIG} cannot be read", where=folder, fix="save the adapter again") from broken
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError("not a LoRA adapter", where=folder, fix="train with LoRA, or with full weights")
    odd = [option for option in REFUSED if config.get(option)]
    if config.get("bias", "none") != "none":
        odd.append("bias")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        # PiSSA, OLoRA and their kin rewrite the base's own weights when they are loaded.
        odd.append("init_lora_weights")
    if odd:
        raise AdapterError(f"adapter uses {', '.join(odd)}", where=folder, fix="train plain LoRA without these options")
    if not _is_finite(config.get("lora_alpha", 8)) or not isinstance(config.get("r"), int) or config["r"] < 1:
        raise AdapterError("rank or scale is no number", where=folder, fix="give r and lora_alpha, train and save it again")
    return config


def _is_finite(number: Any) -> bool:
    return isinstance(number, int | float) and abs(number) <= sys.float_info.max


def _read_tensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor in a file, each looked through for NaN and Inf."""
    import torch
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise AdapterError(f"tensor `{name}` holds NaN or Inf", where=file, fix="train it again, "
                                       "with a smaller learning rate")  # fmt: skip
                shapes[name] = tuple(tensor.shape)
    except (SafetensorError, OSError) as broken:
        raise AdapterError("not a whole safetensors file", where=file, fix="copy or save it again") from broken
    return shapes
