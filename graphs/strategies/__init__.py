"""The ways to reason in steps, by name. A strategy is a module of pure functions; this is the list of them."""

from __future__ import annotations

from graphs.strategies import chain_of_note, direct, ircot, sail, self_ask, self_rag, single_step, tool_calling
from graphs.strategies.strategy import Strategy
from steper_agent.errors import ConfigError

STRATEGIES: dict[str, Strategy] = {
    module.NAME: module for module in (ircot, self_ask, tool_calling, single_step, direct, chain_of_note, sail, self_rag)
}


def strategy_named(name: str) -> Strategy:
    """The strategy's module.

    Raises:
        ConfigError: no strategy has this name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy `{name}`", where="strategy", fix=f"one of: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
