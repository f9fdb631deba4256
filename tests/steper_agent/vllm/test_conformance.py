"""LangChain's integration suite for chat models, over the real engine."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

from steper_agent.vllm.model import VllmChatModel
from tests.served import Serving, needs_vllm


@needs_vllm
@pytest.mark.timeout(600)
class TestIntegration(ChatModelIntegrationTests):
    """Skipped, since the flags keep the suite's False: images, audio, PDF, JSON mode, Anthropic's blocks, recorded traffic."""

    params: dict[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _model(self, serving: Serving) -> None:
        type(self).params = {"path": str(serving.base.path), "base": serving.base, "max_tokens": 40}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return VllmChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return self.params

    @property
    def has_tool_calling(self) -> bool:
        return False  # No random model makes a call; the path from text to calls is the local model's, tested there.

    @property
    def has_structured_output(self) -> bool:
        return False  # A random model never closes the suite's strings, which have no greatest length; see test_real.py.

    @property
    def supports_model_override(self) -> bool:
        return False  # One folder is served, and that is the model.
