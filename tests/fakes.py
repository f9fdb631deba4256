"""Scripted stand-ins for unit tests: a model that says its lines, and a shelf that is searched by shared words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langgraph.config import get_stream_writer
from pydantic import PrivateAttr


class Script(BaseChatModel):
    """Says its lines in order, remembers what it was shown, and fails if asked for more."""

    lines: tuple[str, ...]
    version: str = "script"
    continues_final_message: bool = True
    _seen: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def seen(self) -> list[list[BaseMessage]]:
        return self._seen

    @property
    def _llm_type(self) -> str:
        return "script"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager, kwargs
        if len(self._seen) == len(self.lines):
            raise LookupError("the script is over")
        self._seen.append(messages)
        line = self.lines[len(self._seen) - 1]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=line))])


class Shelf(BaseRetriever):
    """Somebody else's retriever: documents that share a word with the query, most shared words first."""

    texts: dict[str, str]
    """Title → text."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        del run_manager
        ranked = sorted((-len(_words(query) & _words(f"{title} {text}")), title) for title, text in self.texts.items())
        return [Document(id=title, page_content=self.texts[title], metadata={"title": title}) for shared, title in ranked if shared]


class Humming(Shelf):
    """Writes something of its own into the stream of the run that searches it."""

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        get_stream_writer()({"progress": 0.5})
        return self._get_relevant_documents(query, run_manager=run_manager)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def shelf(*titles: str) -> Shelf:
    """A shelf of passages that say nothing but their title."""
    return Shelf(texts={title: f"About {title}." for title in titles})


def said(messages: Sequence[BaseMessage]) -> str:
    """The prefix of the assistant's turn, empty if there is none."""
    return messages[-1].text if isinstance(messages[-1], AIMessage) else ""
