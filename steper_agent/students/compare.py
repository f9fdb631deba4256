"""What differs between two students: the facts of their cards, and how far each adapted module went."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import AdapterError
from steper_agent.records import StudentCard
from steper_agent.students.student import read_card
from steper_agent.students.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PREFIX

FACTS = ("base", "form", "target", "view", "data", "sigma", "weighting", "scores", "parameters", "created_by")


class Fact(NamedTuple):
    name: str
    a: Any
    b: Any


class Moved(NamedTuple):
    module: str
    change: float
    """‖ΔB − ΔA‖ / ‖ΔA‖, Frobenius, where Δ is what the adapter adds to the module's weight; infinite where the first
    student leaves the module as it is."""


class Difference(NamedTuple):
    a: StudentCard
    b: StudentCard
    facts: tuple[Fact, ...]
    """Only those that differ."""
    modules: tuple[Moved, ...]
    """Of two adapters of one base: every adapted module, the largest change first. Else nothing."""


def compare(a: Path, b: Path) -> Difference:
    """Two students' folders, which hold what `check_student` asks for.

    Raises:
        AdapterError: their cards name one base, their weights do not.
    """
    one, other = read_card(a), read_card(b)
    facts = tuple(Fact(name, x, y) for name in FACTS if (x := getattr(one, name)) != (y := getattr(other, name)))
    modules: tuple[Moved, ...] = ()
    if one.form == other.form == "adapter" and one.base == other.base:
        modules = _moved(_read(a), _read(b))
    return Difference(one, other, facts, modules)


class _Delta(NamedTuple):
    """B·A, never multiplied out: its sides are thin, it itself is as large as the base's weight."""

    a: Any
    b: Any


def _moved(one: Mapping[str, _Delta], other: Mapping[str, _Delta]) -> tuple[Moved, ...]:
    import torch

    moved = []
    for module in {**one, **other}:
        parts = [side[module] for side in (one, other) if module in side]
        if len({(part.b.shape[0], part.a.shape[1]) for part in parts}) > 1:
            raise AdapterError(f"`{module}` has two shapes", where="diff", fix="verify both with --base: one was made for another")
        between = _Delta(torch.cat([part.a for part in parts]), torch.cat([part.b for part in parts], dim=1))
        if module in one and module in other:
            between.b[:, : parts[0].b.shape[1]].neg_()
        length, before = _norm(between), _norm(one[module]) if module in one else 0.0
        moved.append(Moved(module, length / before if before else math.inf if length else 0.0))
    return tuple(sorted(moved, key=lambda each: (-each.change, each.module)))


def _norm(delta: _Delta) -> float:
    """Of B·A, by the triangular factors of its sides: no cancellation, however close two adapters are."""
    import torch

    return float(torch.linalg.norm(torch.linalg.qr(delta.b).R @ torch.linalg.qr(delta.a.T).R.T))


def _read(folder: Path) -> dict[str, _Delta]:
    from safetensors.torch import load_file

    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    sides: dict[str, dict[str, Any]] = {}
    for name, tensor in load_file(folder / ADAPTER_WEIGHTS).items():
        module, _, side = name.removeprefix(PREFIX).partition(".lora_")
        sides.setdefault(module, {})["A" if side in ("A.weight", "embedding_A") else "B"] = tensor.double()
    return {module: _Delta(pair["A"], pair["B"] * _scale(config, module, pair["A"].shape[0])) for module, pair in sides.items()}


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """As PEFT scales: by alpha over the rank or its root; a pattern for a module's name goes before the general alpha."""
    alphas = config.get("alpha_pattern") or {}
    named = (alpha for key, alpha in alphas.items() if re.fullmatch(rf"(.*\.)?({key})", module))
    alpha = float(next(named, config.get("lora_alpha", 8)))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
