"""LangChain's own suites for chat models. Tool calls are written by a scripted engine, since no random model makes any;
everything from the prompt's ids to the parsed call is the real path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from steper_agent.models.local import LocalChatModel
from tests.tiny import ScriptedEngine, tiny_base

ARGUMENTS: dict[str, dict[str, Any]] = {
    "magic_function": {"input": 3},
    "magic_function_no_args": {},
    "greeting_generator": {"answer_style": "Pirate"},
    "get_weather": {"location": "San Francisco, CA"},
    "unicode_customer": {"customer_name": "", "description": "a company"},
    "Joke": {"setup": "Why?", "punchline": "Because."},
    "JokeDict": {"setup": "Why?", "punchline": "Because."},
}
"""What an obedient model would call each of the suite's tools with."""


def obey(prompt: str) -> str | None:
    """A call of the first tool the prompt tells of, if it was not called yet."""
    told = re.search(r"Tools:\n(\w+)\(", prompt)
    if told is None or told[1] not in ARGUMENTS or "<tool_response>" in prompt:
        return None
    arguments = ARGUMENTS[told[1]]
    if "customer_name" in arguments:
        name = re.search(r"named '(.*?)'", prompt)
        arguments = {**arguments, "customer_name": name[1] if name else ""}
    return f"<tool_call>{json.dumps({'name': told[1], 'arguments': arguments}, ensure_ascii=False)}</tool_call>"


class Local:
    """What is true of the class, for both suites.

    Skipped, since the flags keep the suites' False: images, audio, PDF, JSON mode and Anthropic's blocks (text goes in,
    text comes out), settings from the environment, serialisation, recorded traffic (there is none).
    """

    params: dict[str, Any] = {}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return LocalChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return self.params

    @property
    def has_tool_choice(self) -> bool:
        return False  # Accepted, but nothing forces the model's tokens.

    @property
    def supports_model_override(self) -> bool:
        return False  # One folder is loaded, and that is the model.

    @property
    def has_structured_output(self) -> bool:
        return True  # By a tool call, so from a model that calls when it should.


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine(tiny_base(tmp_path_factory.mktemp("wide"), layers=1, window=2048), obey)
    yield engine
    engine.close()


class TestUnit(Local, ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _model(self, base: Path) -> None:
        type(self).params = {"path": str(base)}


class TestIntegration(Local, ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _model(self, engine: ScriptedEngine) -> None:
        # A byte or two to the token: the suite's 100 tokens would cut its own calls short.
        type(self).params = {"path": str(engine.path), "engine": engine, "max_tokens": 150}
