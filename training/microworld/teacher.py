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
    patience: int = 0
    """Searches for one fact after which it concludes that nobody can know. 0: it goes on to the end of its budget, and of such a
    run nothing is taught, because it did not come to its answer by itself."""

    @classmethod
    def patient(cls, searches: int) -> SymbolicTeacher:
        """One of that patience, under a name of its own: a journal's recipe tells them apart."""
        return cls(patience=searches, version=f"symbolic-teacher-{searches}") if searches else cls()

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
        return ChatResult(generations=[ChatGeneration(message=reply(messages, self.leads, self.patience))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        del run_manager
        return self._generate(messages, stop, None, **kwargs)
