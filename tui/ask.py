"""`steper ask`: one question through the graph, every step printed as it happens."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.arguments import add_answering

if TYPE_CHECKING:
    from rich.console import Console

    from graphs.state import Context

SHOWN = 180
"""Characters of a passage on the screen; the journal and --json hold all of it."""


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `ask` on the main command line."""
    parser = subparsers.add_parser(
        "ask", help="ask a question and watch every step",
        description="Ask a question over an index; the query, the passages and the reasoning of every step are shown.",
    )  # fmt: skip
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("--index", type=Path, required=True, metavar="DIR", help="made by: steper index build")
    parser.add_argument("--model", required=True, metavar="SPEC",
                        help="local:PATH, local:PATH+STUDENT, openai:NAME, … or symbolic (the micro-world's teacher)")
    parser.add_argument("--exemplars", type=Path, metavar="FILE", help="JSON lines of worked examples to show the model first")
    add_answering(parser)
    parser.add_argument("--journal", type=Path, metavar="FILE", help="append what every node did to this journal")
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="show what every model call cost, and how much of its prompt was cached")
    parser.add_argument("--json", action="store_true", help="print the whole trajectory as JSON instead")
    parser.set_defaults(run=ask)


def ask(args: argparse.Namespace) -> int:
    from rich.console import Console

    from graphs.state import Context
    from graphs.strategies import strategy_named
    from graphs.strategies.exemplars import read_exemplars
    from steper_agent.errors import ConfigError, ModelError, StepERError
    from steper_agent.journal import Journal
    from steper_agent.retrieval import open_retriever
    from training.models import open_model

    if not args.question.strip():
        raise ConfigError("the question is blank", where="ask", fix='write it in quotes: steper ask "Who …?"')
    index = open_retriever(args.index)
    model = open_model(args.model, max_tokens=args.max_tokens)
    journal = Journal(args.journal) if args.journal else None
    exemplars = read_exemplars(args.exemplars, strategy_named(args.strategy)) if args.exemplars else ()
    context = Context(model=model, retriever=index, strategy=args.strategy, k=args.k, steps=args.steps, journal=journal,
                      exemplars=exemplars)
    try:
        asyncio.run(_print_trajectory(args.question, context) if args.json else show(args.question, context, Console(emoji=False), verbose=args.verbose))
    except (StepERError, OSError):
        raise
    except Exception as bad:
        # A provider's client may raise anything.
        raise ModelError(f"the run failed: {type(bad).__name__}: {bad}", where=args.model,
                         fix="check the model's name, its key and its address; steper doctor says what is missing") from bad
    finally:
        if journal:
            journal.close()
    return 0


async def show(question: str, context: Context, console: Console, *, verbose: bool = False) -> str:
    """Print a run as it happens: query, passages with scores, rationale as it streams, answer. Returns the answer."""
    from graphs.serving.events import Reasoning
    from graphs.stepwise import build_graph
    from graphs.story import is_ours
    from steper_agent.plain import plain

    answer, spent, line = "", list[dict[str, Any]](), Reasoning()
    stream: Any = build_graph().astream({"question": question}, context=context, stream_mode=["custom", "messages"])
    async for mode, event in stream:
        if mode == "messages":
            chunk, about = event
            if about["langgraph_node"] == "reason":
                _print_more(line.more(plain(chunk.text), chunk.id), console)
            continue
        if not is_ours(event):
            continue
        if event["event"] == "rationale":
            _print_more(line.close(plain(event["rationale"])), console)
            console.out("" if line.has_begun else "(nothing)")
            line = Reasoning()
        if event["event"] == "answer":
            answer = event["answer"]
        if event["event"] != "usage":
            _print_event(event, console)
        elif verbose:
            spent.append(event)
    if spent:
        _print_spent(spent, console)
    return answer


def _print_more(text: str, console: Console) -> None:
    console.out(text.replace("\n", "\n    "), end="", highlight=False)


def _print_event(event: dict[str, Any], console: Console) -> None:
    from rich.markup import escape

    from steper_agent.plain import plain

    if event["event"] == "query":
        console.print(f"\n[bold]step {event['step']}[/bold]  query: {escape(plain(event['query']))}", highlight=False)
    elif event["event"] == "hits":
        for hit in event["hits"]:
            text = plain(f"{hit['title']}: {hit['text']}").replace("\n", " ")
            short = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
            console.print(f"  [dim]{hit['score']:8.3f}[/dim]  {escape(short)}", highlight=False)
        if not event["hits"]:
            console.print("  [dim]no new passage[/dim]")
        console.out("  → ", end="", highlight=False)
    elif event["event"] == "answer":
        notes = ["step budget spent"] * (event["stop"] == "budget") + ["no passage read supports it"] * (not event["supported"])
        said = f"  [dim]({'; '.join(notes)})[/dim]" if notes else ""
        console.print(f"\n[bold green]answer:[/bold green] {escape(plain(event['answer']))}{said}", highlight=False)


def _print_spent(calls: list[dict[str, Any]], console: Console) -> None:
    from rich.table import Table

    table = Table("node", "step", "prompt tokens", "cached", "written", box=None, pad_edge=False, title="model calls", title_justify="left")
    for call in calls:
        cached, given = call["cached_tokens"], call["prompt_tokens"]
        share = "–" if cached is None else f"{cached} ({cached / max(given, 1):.0%})"
        table.add_row(call["node"], str(call["step"]), str(given), share, str(call["completion_tokens"]))
    console.print(table)


async def _print_trajectory(question: str, context: Context) -> None:
    from typing import cast

    from graphs.run import trajectory_of
    from graphs.state import QAState
    from graphs.stepwise import build_graph

    state = await build_graph().ainvoke({"question": question}, context=context)
    trajectory = trajectory_of(cast(QAState, state), context)
    print(json.dumps(trajectory.model_dump(mode="json"), indent=1, ensure_ascii=True))
