"""The graph, readable as its edges: query, retrieve, reason, and round again until there is an answer."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graphs import nodes
from graphs.bridge import Both
from graphs.state import Context, Input, QAState

FUSE = 10_000
"""LangGraph's recursion limit, out of reach: the loop ends by its own edge."""

StepwiseGraph = CompiledStateGraph[QAState, Context, Input, QAState]


def build_graph() -> StepwiseGraph:
    """The compiled graph. Give it `{"question": …}` and `context=Context(model, retriever)`."""
    graph = StateGraph(QAState, context_schema=Context, input_schema=Input)
    for node in (nodes.form_query, nodes.retrieve, nodes.reason, nodes.answer):
        graph.add_node(node.__name__, Both(node))

    graph.add_edge(START, "form_query")
    graph.add_edge("form_query", "retrieve")
    graph.add_edge("retrieve", "reason")
    graph.add_conditional_edges("reason", nodes.is_open, ["form_query", "answer"])
    graph.add_edge("answer", END)
    return graph.compile(name="stepwise").with_config(recursion_limit=FUSE)
