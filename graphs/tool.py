"""The graph as a LangChain tool: another agent asks it a question and gets an answer with what it rests on."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from graphs.state import Context, QAState
from graphs.stepwise import FUSE, build_graph

NAME = "answer_question"
DESCRIPTION = (
    "Answers a question that needs several facts from the documents, looked up one after another. Give the whole question, "
    "with all names in it."
)


class Asked(BaseModel):
    question: str = Field(description="one question that can be understood on its own")


def as_tool(context: Context, *, name: str = NAME, description: str = DESCRIPTION) -> BaseTool:
    """A tool for `create_agent` or any other tool-calling program. Its artifact is the run's final state."""
    graph = build_graph()

    def answer(question: str, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        return _told(cast(QAState, graph.invoke({"question": question}, _unlimited(config), context=context)))

    async def aanswer(question: str, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        return _told(cast(QAState, await graph.ainvoke({"question": question}, _unlimited(config), context=context)))

    return StructuredTool.from_function(
        answer, aanswer, name=name, description=description, args_schema=Asked, response_format="content_and_artifact"
    )


def _unlimited(config: RunnableConfig) -> RunnableConfig:
    """The caller's, but for its recursion limit, LangChain's 25 where it gives none: eight steps would reach it."""
    return {**config, "recursion_limit": FUSE}


def _told(state: QAState) -> tuple[str, dict[str, Any]]:
    """The answer, and the titles a reader could check it by; an answer nothing supports says so."""
    titles = dict.fromkeys(passage["title"] for step in state["evidence"] for passage in step["passages"])
    rests = f"Based on: {'; '.join(titles)}." if state["supported"] else "No passage that was read supports this answer."
    return f"{state['answer'] or 'No answer was found.'}\n{rests}", dict(state)
