"""The ways to reason in steps, by name. A strategy is a module of pure functions; this is the list of them."""

from __future__ import annotations

from types import ModuleType

from graphs.strategies import ircot
from steper_agent.errors import ConfigError

STRATEGIES: dict[str, ModuleType] = {ircot.NAME: ircot}


def strategy_named(name: str) -> ModuleType:
    """The strategy's module.

    Raises:
        ConfigError: no strategy has this name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy `{name}`", where="strategy", fix=f"one of: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
