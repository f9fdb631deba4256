"""The graph, readable as its edges: query, retrieve, reason, and round again until there is an answer."""

from __future__ import annotations

from collections.abc import Mapping

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, RetryPolicy

from graphs import nodes
from graphs.bridge import Both, Route
from graphs.retrying import RETRY
from graphs.state import Context, Input, QAState

FUSE = 10_000
"""LangGraph's recursion limit, out of reach: the loop ends by its own edge."""

StepwiseGraph = CompiledStateGraph[QAState, Context, Input, QAState]


def build_graph(
    context: Context | None = None, *, checkpointer: Checkpointer = None,
    retry: RetryPolicy | Mapping[str, RetryPolicy] | None = RETRY,
) -> StepwiseGraph:  # fmt: skip
    """The compiled graph. Give it `{"question": …}`; `context` here, or with each call.

    `checkpointer`: threads remember their conversation and go on after a crash; it is given plain JSON only, so any strict
    serializer does. `retry`: how often a node that met a passing fault is tried again, for all nodes or by node's name;
    None never does.
    """
    graph = StateGraph(QAState, context_schema=Context, input_schema=Input)
    for node in (nodes.begin, nodes.form_query, nodes.retrieve, nodes.reason, nodes.answer):
        policy = retry.get(node.__name__) if isinstance(retry, Mapping) else retry
        graph.add_node(node.__name__, Both(node, context), retry_policy=policy)

    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", Route(nodes.after_begin, context), ["form_query", "reason", "answer"])
    graph.add_edge("form_query", "retrieve")
    graph.add_edge("retrieve", "reason")
    graph.add_conditional_edges("reason", Route(nodes.after_reason, context), ["form_query", "answer"])
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=checkpointer, name="stepwise").with_config(recursion_limit=FUSE)
