"""A recipe: one TOML file with a table for every verb of the chain, each read into that verb's settings as the verb itself reads it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from steper_agent.config import Config, read_tables
from steper_agent.errors import ConfigError
from training.collect import CollectConfig
from training.dataset import DatasetConfig
from training.distill import DistillConfig
from training.evaluate import EvaluateConfig

TABLES: dict[str, type[Config]] = {"collect": CollectConfig, "dataset": DatasetConfig, "distill": DistillConfig, "evaluate": EvaluateConfig}
OTHERS = ("experiment", "compare", "demo")
"""Tables of other verbs, which a recipe may hold too."""

C = TypeVar("C", bound=Config)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The tables that the file has; asking for one that it lacks is a ConfigError."""

    path: Path
    tables: Mapping[str, Config]

    @property
    def collect(self) -> CollectConfig:
        return self._table("collect", CollectConfig)

    @property
    def dataset(self) -> DatasetConfig:
        return self._table("dataset", DatasetConfig)

    @property
    def distill(self) -> DistillConfig:
        return self._table("distill", DistillConfig)

    @property
    def evaluate(self) -> EvaluateConfig:
        return self._table("evaluate", EvaluateConfig)

    def has(self, *names: str) -> bool:
        return set(names) <= self.tables.keys()

    def _table(self, name: str, kind: type[C]) -> C:
        found = self.tables.get(name)
        if not isinstance(found, kind):
            raise ConfigError(f"there is no table [{name}]", where=self.path, fix=f"write [{name}] and its keys below it")
        return found


def read_recipe(path: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """The tables of a recipe, overridden key by key.

    Raises:
        ConfigError: the file cannot be read, has none of the tables, a misspelt one, or one that its verb would refuse.
    """
    given, found = overrides or {}, read_tables(path)
    for name in [*found, *given]:
        if name not in TABLES and name not in OTHERS:
            near = get_close_matches(name, TABLES, n=1)
            raise ConfigError(f"no verb reads the table [{name}]", where=path, fix=f"did you mean [{near[0]}]?" if near else f"one of: {', '.join(TABLES)}")
    if not found.keys() & TABLES.keys():
        raise ConfigError("a recipe without a table that is checked", where=path, fix=f"give it one of: {', '.join(TABLES)}")
    return Recipe(path, {name: kind.load(name, file=path, overrides=given.get(name)) for name, kind in TABLES.items() if name in found})


def overrides_of(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`TABLE.KEY=VALUE` each; a value that is no TOML is text.

    Raises:
        ConfigError: one is of another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        table, dot, key = name.partition(".")
        if not equals or not dot:
            raise ConfigError(f"`{word}` is not TABLE.KEY=VALUE", where="--set", fix="write --set collect.limit=100")
        try:
            found.setdefault(table.strip(), {})[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found.setdefault(table.strip(), {})[key.strip()] = value
    return found
