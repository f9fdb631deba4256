"""What our graph costs beside LangGraph itself: python benchmarks/graph_overhead.py --json FILE

In one process, taking turns: our graph around a model and a retriever that answer at once, with the journal on; the same
LangGraph graph with empty nodes (the floor); and a bare loop over the same model and retriever. Milliseconds are wall clock
a node; with 64 runs at once, of all runs together divided by all nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langgraph.graph import END, START, StateGraph

from graphs.bridge import Route
from graphs.state import Context, Input, QAState
from graphs.stepwise import build_graph
from steper_agent.journal import Journal

STEPS, K = 4, 4
NODES = 2 + 3 * STEPS
QUESTION = "Where was the author of the book born?"
Run = Callable[[int], Awaitable[None]]


class Instant(BaseChatModel):
    """Says the next line of a chain of STEPS lines at once."""

    continues_final_message: bool = True

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager, kwargs
        number = messages[-1].text.count("\n") + 1 if messages[-1].type == "ai" else 1
        text = f"Line {number} says this. So the answer is: here." if number == STEPS else f"Line {number} says this."
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del run_manager
        return self._generate(messages, stop, None, **kwargs)


class Drawer(BaseRetriever):
    """Finds K new passages of 100 words for every query at once."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        del run_manager
        return [Document(id=f"{query}-{n}", page_content="word " * 100, metadata={"title": f"Title {n}"}) for n in range(K)]

    async def _aget_relevant_documents(self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun) -> list[Document]:
        del run_manager
        return [Document(id=f"{query}-{n}", page_content="word " * 100, metadata={"title": f"Title {n}"}) for n in range(K)]


def ours(journal: Journal) -> Run:
    graph = build_graph(Context(Instant(), Drawer(), k=K, steps=STEPS, journal=journal))

    async def run(number: int) -> None:
        state = await graph.ainvoke({"question": QUESTION, "run": f"run-{number}"})
        assert len(state["steps"]) == STEPS
        assert state["answer"] == "here"

    return run


def floor() -> Run:
    """Our nodes' names and edges; a node only counts, so that the loop goes round as often."""
    graph = StateGraph(QAState, input_schema=Input)

    async def empty(state: QAState) -> dict[str, Any]:
        del state
        return {}

    async def step(state: QAState) -> dict[str, Any]:
        return {"steps": [*state.get("steps", []), {}]}

    def to_query(state: QAState, context: Context) -> str:
        del state, context
        return "form_query"

    def onward(state: QAState, context: Context) -> str:
        del context
        return "answer" if len(state["steps"]) == STEPS else "form_query"

    unused = Context(Instant(), Drawer())

    for name in ("begin", "retrieve", "reason", "answer"):
        graph.add_node(name, empty)
    graph.add_node("form_query", step)
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", Route(to_query, unused), ["form_query", "reason", "answer"])
    graph.add_edge("form_query", "retrieve")
    graph.add_edge("retrieve", "reason")
    graph.add_conditional_edges("reason", Route(onward, unused), ["form_query", "answer"])
    graph.add_edge("answer", END)
    compiled = graph.compile().with_config(recursion_limit=10_000)

    async def run(number: int) -> None:
        await compiled.ainvoke({"question": QUESTION, "run": f"run-{number}"})

    return run


def bare() -> Run:
    """What a person would write without a graph, a journal or a limit."""
    model, drawer = Instant(), Drawer()

    async def run(number: int) -> None:
        del number
        lines: list[str] = []
        passages: list[Document] = []
        while not lines or "answer is" not in lines[-1]:
            passages += await drawer.ainvoke(lines[-1] if lines else QUESTION)
            prompt = "\n".join(document.page_content for document in passages)
            said = [AIMessage("".join(f"{line}\n" for line in lines))] if lines else []
            lines.append((await model.ainvoke([HumanMessage(f"{prompt}\n{QUESTION}"), *said])).text)

    return run


async def timed(run: Run, first: int, runs: int, concurrency: int) -> float:
    """Milliseconds a node."""
    gate = asyncio.Semaphore(concurrency)

    async def one(number: int) -> None:
        async with gate:
            await run(number)

    start = time.perf_counter()
    await asyncio.gather(*(one(first + number) for number in range(runs)))
    return (time.perf_counter() - start) * 1000 / (runs * NODES)


async def measure(repeats: int, runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl") as journal:
        contenders = {"ours": ours(journal), "floor": floor(), "bare": bare()}
        taken: dict[tuple[str, int], list[float]] = {}
        first = 0
        for repeat in range(repeats + 1):
            for concurrency in (1, 64):
                for name, run in contenders.items():
                    found = await timed(run, first, runs, concurrency)
                    first += runs
                    if repeat:  # The first round only warms up.
                        taken.setdefault((name, concurrency), []).append(found)
    middle = {key: statistics.median(values) for key, values in taken.items()}
    return {
        "ratio_c1": middle["ours", 1] / middle["floor", 1], "ratio_c64": middle["ours", 64] / middle["floor", 64],
        "ours_ms_per_node": middle["ours", 1], "floor_ms_per_node": middle["floor", 1], "bare_ms_per_node": middle["bare", 1],
        "ours_ms_per_node_c64": middle["ours", 64], "floor_ms_per_node_c64": middle["floor", 64],
        "bare_ms_per_node_c64": middle["bare", 64], "steps": STEPS, "k": K, "nodes": NODES, "runs": runs, "repeats": repeats,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("langgraph", "langchain-core")}},
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of which the median counts (default: 7)")
    parser.add_argument("--runs", type=int, default=128, help="runs of each graph in a round (default: 128)")
    args = parser.parse_args()
    found = asyncio.run(measure(args.repeats, args.runs))
    for concurrency, suffix in ((1, ""), (64, "_c64")):
        print(f"{concurrency:3} at once: ours {found[f'ours_ms_per_node{suffix}']:.3f} ms a node, floor {found[f'floor_ms_per_node{suffix}']:.3f}, "
              f"bare loop {found[f'bare_ms_per_node{suffix}']:.3f}; ours / floor {found[f'ratio_c{concurrency}']:.2f}")
    if args.json:
        command = f"python benchmarks/graph_overhead.py --json {args.json} --repeats {args.repeats} --runs {args.runs}"
        args.json.write_text(json.dumps({"command": command, **found}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
