"""Students in numbers: one is really made, the others are it with other weights, since making one loads a model."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from steper_agent.students.student import read_card, save_student
from steper_agent.students.weights import ADAPTER_WEIGHTS
from tests.tiny import tiny_adapter, tiny_base

OTHER_BASE = "f" * 64


def make_students(folder: Path, count: int) -> tuple[Path, list[Path]]:
    """A base, and students of it; each one's weights are twice those of the one before it."""
    base = tiny_base(folder / "base")
    students = [tiny_adapter(base, folder / "s0")]
    for number in range(1, count):
        students.append(reweighed(students[-1], folder / f"s{number}", 2.0))
    return base, students


def reweighed(student: Path, folder: Path, factor: float) -> Path:
    """A student whose modules each add `factor` times as much."""
    shutil.copytree(student, folder)
    tensors = {name: tensor * (factor if "lora_B" in name else 1.0) for name, tensor in load_file(student / ADAPTER_WEIGHTS).items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    save_student(folder, read_card(student))
    return folder


def of_other_base(student: Path, folder: Path) -> Path:
    """The same with a card that names another base, and a name of its own."""
    reweighed(student, folder, 0.5)
    save_student(folder, read_card(student).model_copy(update={"base": OTHER_BASE}))
    return folder


def name_of(student: Path) -> str:
    return read_card(student).name
