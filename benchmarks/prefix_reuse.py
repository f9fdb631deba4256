"""How much of a step's prompt the engine has computed before: python benchmarks/prefix_reuse.py --json FILE

Runs of five steps through the graph on a real vLLM server with its prefix cache, on the micro-world. What the model writes is
dictated, so that every run has its five steps and all layouts see the same passages; every prompt is really sent and as many
tokens really generated. `cached_share` is of the prompt tokens at steps 2 and up, as the journal has them; the tokens that the
model generated are never found again (they are not the dictated ones), so a real model's share is a little higher.

`newest_first` is ircot with the newest passages at the head of the prompt, as other frameworks lay it out; `seconds` is
wall-clock of all runs. The layouts take turns, each time over questions that nobody has asked yet, with an empty cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

from graphs.run import Context, aanswer_all
from graphs.strategies import STRATEGIES, ircot
from graphs.strategies.layout import prefix, show, user
from graphs.strategies.strategy import Chain, Strategy
from steper_agent.journal import Journal, read
from steper_agent.records import NodeRecord, Question
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from steper_agent.vllm.model import VllmChatModel
from steper_agent.vllm.served_base import start_base
from training.microworld import BASE
from training.microworld.questions import CHAINS, make_questions
from training.microworld.world import World, make_world
from training.verb import versions

STEPS, K, WRITTEN = 5, 4, 24
LAYOUTS = ("ircot", "tool_calling", "newest_first")


def newest_first(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    passages = [hit.passage for step in reversed(chain.steps) for hit in step.hits]
    return [user(show(chain.question, passages), continues=continues), *prefix(ircot.blocks(chain))]


def register() -> None:
    """The layout to compare with, as one more strategy."""
    same = {name: getattr(ircot, name) for name in dir(ircot) if not name.startswith("__")}
    STRATEGIES["newest_first"] = cast(Strategy, SimpleNamespace(**{**same, "NAME": "newest_first", "reason": newest_first}))


class Dictated(BaseChatModel):
    """Sends every prompt to the served model and lets it write, but says the next line of a chain of STEPS lines."""

    continues_final_message: bool = True
    served: Any
    names: list[str]

    @property
    def _llm_type(self) -> str:
        return "dictated"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=tools, **kwargs)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager
        model = self.served.bind_tools(kwargs["tools"]) if kwargs.get("tools") else self.served
        reply = await model.ainvoke(messages, max_tokens=WRITTEN)
        said = self._next(messages, "tools" in kwargs)
        return ChatResult(generations=[ChatGeneration(message=said.model_copy(
            update={"usage_metadata": reply.usage_metadata, "response_metadata": reply.response_metadata}))])  # fmt: skip

    def _next(self, messages: Sequence[BaseMessage], calls: bool) -> AIMessage:
        turns = [message for message in messages if isinstance(message, AIMessage)]
        done = len(turns) if calls else sum(message.text.count("\n") for message in turns)
        question = next(message.text for message in messages if "Question: " in message.text)
        at = sum(map(ord, question)) * 31 + done * 7
        one, other = (self.names[(at + more) % len(self.names)] for more in (0, 3))
        line = f"The founder of {one} is {other}."
        if done >= STEPS - (0 if calls else 1):
            return AIMessage(f"{line} {ircot.CONCLUSION} {other}.")
        call = [ToolCall(name="search", args={"query": f"What is {other}?"}, id="call00000", type="tool_call")]
        return AIMessage(line, tool_calls=call if calls else [])


async def one_round(layout: str, questions: list[Question], model: Dictated, retriever: IndexRetriever, journal: Path, at_once: int) -> float:
    """Seconds."""
    with Journal(journal) as written:
        context = Context(model=model, retriever=retriever, strategy=layout, k=K, steps=STEPS + 1, journal=written)
        start = time.perf_counter()
        trajectories = await aanswer_all(questions, context, concurrency=at_once)
        seconds = time.perf_counter() - start
    assert {len(one.steps) for one in trajectories} == {STEPS}, [len(one.steps) for one in trajectories]
    return seconds


def shares(journals: Sequence[Path]) -> dict[str, Any]:
    """By step, and over the steps from the second on."""
    given, cached = dict[int, int](), dict[int, int]()
    for journal in journals:
        for record in read(journal):
            if isinstance(record, NodeRecord) and record.node == "reason" and record.step and record.usage:
                assert record.usage.cached_tokens is not None
                given[record.step] = given.get(record.step, 0) + record.usage.prompt_tokens
                cached[record.step] = cached.get(record.step, 0) + record.usage.cached_tokens
    later = [step for step in given if step >= 2]
    return {"cached_share": sum(cached[step] for step in later) / sum(given[step] for step in later),
            "by_step": {step: round(cached[step] / given[step], 4) for step in sorted(given)},
            "prompt_tokens": sum(given.values())}


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    register()
    world: World = make_world(3000, split="test", seed=0)
    (folder / "passages.jsonl").write_text("".join(passage.model_dump_json() + "\n" for passage in world.passages))
    build_index([folder / "passages.jsonl"], folder / "index")
    retriever = open_index(folder / "index")
    questions = list({question.text: question for question in make_questions(world, 4000, seed=0, mix=CHAINS)}.values())
    names = sorted({passage.title for passage in world.passages})
    base = start_base(BASE, dtype=args.dtype)
    model = Dictated(served=VllmChatModel(path=str(BASE), base=base), names=names)
    taken: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
    journals: dict[str, list[Path]] = {layout: [] for layout in LAYOUTS}
    first = 0
    for turn in range(args.rounds + 1):
        for layout in LAYOUTS:
            journal = folder / f"{layout}-{turn}.jsonl"
            some, first = questions[first : first + args.runs], first + args.runs
            assert len(some) == args.runs, "the world has too few questions for so many rounds"
            seconds = await one_round(layout, some, model, retriever, journal, args.at_once)
            if turn:  # The first round only warms up.
                taken[layout].append(seconds)
                journals[layout].append(journal)
    assert base.server
    base.server.stop()
    found = {layout: {**shares(journals[layout]), "seconds": statistics.median(taken[layout])} for layout in LAYOUTS}
    ratio = found["newest_first"]["seconds"] / found["ircot"]["seconds"]
    return {**found, "newest_first_over_ircot": ratio, "steps": STEPS, "k": K, "runs": args.runs, "rounds": args.rounds, "at_once": args.at_once}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--runs", type=int, default=24, help="runs of each layout in a round (default: 24)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of whose seconds the median counts (default: 5)")
    parser.add_argument("--at-once", type=int, default=4, help="runs under way at any moment (default: 4)")
    parser.add_argument("--dtype", default="float32", help="of the served model (default: float32)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="steper-prefix-"))
    try:
        found = asyncio.run(measure(args, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for layout in LAYOUTS:
        told = found[layout]
        by_step = ", ".join(f"{step}: {share:.0%}" for step, share in told["by_step"].items())
        print(f"{layout:13} {told['cached_share']:.3f} of the prompt tokens at steps 2 and up were cached ({by_step}); {told['seconds']:.2f} s")
    print(f"newest_first takes {found['newest_first_over_ircot']:.2f} times as long as ircot")
    if args.json:
        command = f"python benchmarks/prefix_reuse.py --json {args.json} --runs {args.runs} --rounds {args.rounds} --at-once {args.at_once} --dtype {args.dtype}"
        args.json.write_text(json.dumps({"command": command, **found, "versions": versions()}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
