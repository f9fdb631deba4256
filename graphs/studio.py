"""The graph for LangGraph's own development server (`langgraph dev` reads langgraph.json), set up by the environment.

    STEPER_INDEX=runs/index STEPER_MODEL=openai:gpt-4o-mini langgraph dev
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from pydantic import Field, field_validator

from graphs.state import Context
from graphs.stepwise import StepwiseGraph, build_graph
from graphs.strategies import STRATEGIES
from steper_agent.errors import ConfigError
from steper_agent.models.spec import open_model
from steper_agent.records import Record
from steper_agent.retrieval import open_retriever

NEEDED = {"STEPER_INDEX": "a folder made by `steper index build`", "STEPER_MODEL": "a model spec, e.g. local:PATH or openai:NAME"}


class Settings(Record):
    """What a run or an assistant may set, as plain JSON; what it leaves out is as the environment says."""

    strategy: str = Field(
        default_factory=lambda: os.environ.get("STEPER_STRATEGY") or "ircot",
        description="How to reason in steps. Default: STEPER_STRATEGY, or else ircot.",
        json_schema_extra={"enum": list(STRATEGIES)},
    )
    k: int = Field(default_factory=lambda: _number("STEPER_K", 4), ge=1,
                   description="Passages a search returns. Default: STEPER_K, or else 4.")  # fmt: skip
    steps: int = Field(default_factory=lambda: _number("STEPER_STEPS", 5), ge=1,
                       description="Step budget. Default: STEPER_STEPS, or else 5.")  # fmt: skip
    approve: bool = Field(default=False, description="Wait before every retrieval until the query is approved or replaced.")

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        # Of a run's own errors the server passes on pydantic's words, and of ours only that there was one.
        if name not in STRATEGIES:
            raise ValueError(f"one of: {', '.join(STRATEGIES)}")
        return name


def stepwise(config: RunnableConfig) -> StepwiseGraph:
    """The graph over STEPER_INDEX with STEPER_MODEL, for one run and its settings.

    Raises:
        ConfigError: a variable is missing or no number.
    """
    for name, what in NEEDED.items():
        if not os.environ.get(name):
            raise ConfigError(f"{name} is not set", where="langgraph dev", fix=f"set it to {what}")
    model, retriever = _opened(os.environ["STEPER_MODEL"], os.environ["STEPER_INDEX"])
    # The server puts a run's context among the configurable values, which hold much of its own besides.
    given = {name: value for name, value in config.get("configurable", {}).items() if name in Settings.model_fields}
    context = Context(model, retriever, **Settings.model_validate(given).model_dump())
    # What the server may set and can describe: our own context holds a model and a retriever, which no JSON does.
    return build_graph(context).copy({"context_schema": Settings})


@cache
def _opened(model: str, index: str) -> tuple[BaseChatModel, BaseRetriever]:
    """Kept, because the server asks for the graph with every request."""
    return open_model(model), open_retriever(Path(index))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{name} is `{text}`", where="langgraph dev", fix="set it to a number of at least 1")
    return int(text)
