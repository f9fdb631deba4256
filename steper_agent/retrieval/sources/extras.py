"""Packages that only some formats need, imported when the first such file is met."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from steper_agent.errors import DependencyError


def load(module: str, what: str, path: Path) -> Any:
    """The module, or an error that names the file that needs it.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as missing:
        raise DependencyError(
            f"{what} cannot be read without the package {module.partition('.')[0]}",
            where=path,
            fix="pip install 'steper-agent[documents]'",
        ) from missing
