"""A base and four students of it, for the tests of the registry; nobody writes into them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from steper_agent.students.fingerprint import base_fingerprint
from steper_agent.students.registry import Registry
from tests.steper_agent.students.registries import make_students, name_of


class Made(NamedTuple):
    base: Path
    fingerprint: str
    students: list[Path]
    names: list[str]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    base, students = make_students(tmp_path_factory.mktemp("made"), 4)
    return Made(base, base_fingerprint(base), students, [name_of(student) for student in students])


@pytest.fixture(scope="session")
def full(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("full") / "registry")
    for student in made.students:
        registry.add(student)
    return registry.folder


@pytest.fixture
def registry(full: Path, tmp_path: Path) -> Registry:
    """One that holds the four students, as candidates."""
    return Registry(shutil.copytree(full, tmp_path / "registry"))
