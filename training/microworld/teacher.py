"""The symbolic teacher: a LangChain chat model that reasons only over the passages in its prompt.

It parses the prompt like any model would see it, follows the question's relations one fact a step, says so when the
evidence is missing, and has no side door to the world's facts. It speaks every strategy's language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from training.microworld.speech import LEADS, reply


class SymbolicTeacher(BaseChatModel):
    """Writes the next turn of whichever strategy the system message asks for."""

    continues_final_message: bool = True
    version: str = "symbolic-teacher"
    leads: tuple[str, ...] = LEADS

    @property
    def _llm_type(self) -> str:
        return "symbolic-teacher"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:  # fmt: skip
        del tool_choice
        return self.bind(tools=list(tools), **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        del stop, run_manager, kwargs
        return ChatResult(generations=[ChatGeneration(message=reply(messages, self.leads))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        del run_manager
        return self._generate(messages, stop, None, **kwargs)
