"""What those who ask would notice of many swaps: python benchmarks/swap.py --json FILE

A real vLLM server on the micro-world's base, and people asking through the graph, streaming, all the time. Students take
the seat one after another, each with a name and a folder of its own, held by leases (ours). Beside it, on the same server
and under the same load, two ways people do it: the old student is unloaded as soon as the new one serves (at_once), and
the new one is loaded under the old one's name (same_name).

A run fails if any of its nodes does. Afterwards, on the idle server, every model turn's prompt is sent again to the version
that the journal names: `foreign` counts turns that said something else where no near-tie explains it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from graphs.state import Context, QAState
from graphs.stepwise import build_graph
from steper_agent.errors import StepERError
from steper_agent.journal import Journal, read
from steper_agent.models.engine import Engine
from steper_agent.models.slot import ModelSlot
from steper_agent.models.tokens import greedy
from steper_agent.records import NodeRecord, StudentCard
from steper_agent.retrieval import build_index, open_index
from steper_agent.students.fingerprint import base_fingerprint
from steper_agent.students.golden import MOST_TOKENS, golden_of, write_golden
from steper_agent.students.student import read_card, save_student
from steper_agent.students.swap import swap_student
from steper_agent.vllm.model import VllmChatModel
from steper_agent.vllm.served_base import ServedBase, start_base
from steper_agent.vllm.source import Served
from training.microworld import BASE
from training.microworld.questions import CHAINS, make_questions
from training.microworld.world import make_world
from training.verb import versions

K, STEPS, MAX_TOKENS = 2, 2, 16
RANK = 8
SETTLED, QUIET = 5, 15.0
"""Swaps after which memory is first looked at, and seconds of quiet before."""
MOST_LOADED = 4
"""Versions on the server at once; a swap beyond that waits for the oldest one's last run."""
PROMPTS = (tuple(range(10, 200)), tuple(range(300, 400)))
"""Of golden replies: a student's canary."""
NAIVE = ("same_name", "at_once")


@dataclass
class Load:
    """People who ask without a pause until they are told to stop."""

    slot: ModelSlot
    context: Context
    questions: list[str]
    journal: Path
    runs: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    async def ask(self, asker: int, over: asyncio.Event) -> None:
        graph = build_graph()
        while not over.is_set():
            number, self.runs = self.runs, self.runs + 1
            question = self.questions[number % len(self.questions)]
            given: QAState = {"question": question, "run": f"{asker}-{number}"}
            try:
                async for _ in graph.astream(given, context=self.context, stream_mode=["messages", "custom"]):
                    pass
            except StepERError as failure:
                self.failed += 1
                self.reasons[failure.what[:60]] = self.reasons.get(failure.what[:60], 0) + 1


def make_students(folder: Path, count: int) -> list[Path]:
    """Random LoRA adapters, each strong enough to change what the base says, with golden replies of PEFT in this process."""
    made, engine = [], Engine(BASE)
    for seed in range(count):
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32),
            LoraConfig(r=RANK, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False),
        )  # fmt: skip
        student = folder / f"{seed:03d}"
        model.save_pretrained(str(student))
        adapter = engine.load_adapter(student)
        replies = [greedy(engine, prompt, MOST_TOKENS, adapter) for prompt in PROMPTS]
        write_golden(student, [golden_of("initialization", 1, *pair) for pair in zip(PROMPTS, replies, strict=True)])
        engine.unload_adapter(adapter)
        save_student(student, card_of(seed))
        made.append(student)
    engine.close()
    return made


def card_of(seed: int) -> StudentCard:
    return StudentCard(name="", content="", base=base_fingerprint(BASE), form="adapter", target="cumulative", view="stepwise",
                       data="", sigma={}, weighting="none", parameters=0, created_by=f"benchmarks/swap.py, seed {seed}")  # fmt: skip


def model_of(base: ServedBase) -> VllmChatModel:
    return VllmChatModel(path=str(BASE), base=base, max_tokens=MAX_TOKENS)


def memory(base: ServedBase) -> int:
    """Bytes that the server's processes hold."""
    assert base.server
    assert base.server.pid
    return sum(int(one.memory_info().rss) for one in psutil.Process(base.server.pid).children(recursive=True))


async def under_load(load: Load, askers: int, swapping: Callable[[], Any]) -> float:
    """Run `swapping` in a thread while people ask; seconds it took."""
    over = asyncio.Event()
    asking = [asyncio.create_task(load.ask(asker, over)) for asker in range(askers)]
    start = time.perf_counter()
    try:
        await asyncio.to_thread(swapping)
    finally:
        over.set()
        await asyncio.gather(*asking)
    return time.perf_counter() - start


def loaded(slot: ModelSlot, retriever: BaseRetriever, questions: list[str], journal: Journal) -> Load:
    context = Context(model=slot, retriever=retriever, k=K, steps=STEPS, journal=journal)
    return Load(slot, context, questions, journal.path)


def ours(base: ServedBase, load: Load, students: list[Path], pause: float, seconds: dict[str, list[float]]) -> None:
    """Swap student after student, and note what each phase takes; an old one is unloaded when its last run has ended."""
    model = model_of(base)
    for student in students:
        report = swap_student(load.slot, model, student)
        assert report.ok, report.reason
        while len(load.slot.loaded) > MOST_LOADED:
            load.slot.drain(0.1)
        for phase, taken in report.seconds.items():
            seconds.setdefault(phase, []).append(taken)
        time.sleep(pause)
    assert load.slot.drain(300.0)


async def swapped_under_load(base: ServedBase, load: Load, students: list[Path], args: argparse.Namespace) -> dict[str, Any]:
    """All of them. After the first few, people go on asking for a while, since the engine keeps what it has compiled for every
    new size of a batch; then, and at the end, they pause for the memory that is held for good."""
    seconds, held, took = dict[str, list[float]](), list[float](), 0.0
    for some, more in ((students[:SETTLED], args.warm), (students[SETTLED:], 0.0)):
        took += await under_load(load, args.askers, lambda some=some: ours(base, load, some, args.pause, seconds))  # type: ignore[misc]
        await under_load(load, args.askers, lambda more=more: time.sleep(more))  # type: ignore[misc]
        await asyncio.sleep(QUIET)
        held.append(memory(base) / 2**20)
    p95 = {f"{phase}_ms_p95": 1000 * statistics.quantiles(taken, n=20)[-1] for phase, taken in seconds.items()}
    p50 = {f"{phase}_ms_p50": 1000 * statistics.median(taken) for phase, taken in seconds.items()}
    return {**p50, **p95, f"memory_mib_after_{SETTLED}": held[0], "memory_mib_at_end": held[1], "memory_growth": held[1] / held[0] - 1,
            "runs": load.runs, "failed": load.failed, "seconds": took, "reasons": load.reasons}  # fmt: skip


def naive(how: str, base: ServedBase, load: Load, students: list[Path], pause: float) -> None:
    """What people do: no leases. The slot is told the same version all along, or drops the old one at once."""
    client = base.client
    before = ""
    for student in students:
        name = "student" if how == "same_name" else f"student@{how}-{student.name}"
        if how == "same_name" and before:
            attempt(base, lambda before=before: client.unload(before))  # type: ignore[misc]
        attempt(base, lambda name=name, student=student: client.load(name, student))  # type: ignore[misc]
        serving = Named(path=str(BASE), base=base, max_tokens=MAX_TOKENS, named=name)
        load.slot.swap(lambda serving=serving: serving, version=f"{name}/{student.name}")  # type: ignore[misc]
        if how == "at_once" and before:
            attempt(base, lambda before=before: client.unload(before))  # type: ignore[misc]
        before = name
        time.sleep(pause)
    attempt(base, lambda: client.unload(before))


def attempt(base: ServedBase, act: Callable[[], None]) -> None:
    """What people do can kill the engine, which then loses every student: that is part of the comparison."""
    try:
        act()
    except StepERError:
        assert base.server
        base.server.wait_ready(300.0)


class Named(VllmChatModel):
    """Whatever the server has under this name."""

    named: str

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._served = Served(self.base.replicas, self.named, self.base.vocabulary)


def checked(base: ServedBase, journal: Path, students: list[Path], most: int) -> dict[str, int]:
    """Send turns again, idle: whether each was said by the version that the journal names."""
    folders = {read_card(folder).name: folder for folder in students}
    turns = [record for record in read(journal) if isinstance(record, NodeRecord) and record.output_ids]
    versions: dict[str, set[str]] = {}
    for turn in turns:
        versions.setdefault(turn.run, set()).add(turn.model)
    found = {"turns": len(turns), "mixed_runs": sum(len(one) > 1 for one in versions.values()), "checked": 0, "identical": 0, "ties": 0, "foreign": 0}
    by_version: dict[str, list[NodeRecord]] = {}
    for turn in turns:
        by_version.setdefault(turn.model, []).append(turn)
    for name, said in by_version.items():
        model = model_of(base).with_student(folders[name]) if name in folders else model_of(base)
        for turn in said[:most]:
            again = model.greedy(turn.prompt_ids, len(turn.output_ids))
            golden = golden_of("expansion", turn.step, turn.prompt_ids, again)
            found["checked"] += 1
            if again.output_ids == turn.output_ids:
                found["identical"] += 1
            elif _is_tie(golden.output, turn.output_ids, golden.margins):
                found["ties"] += 1
            else:
                found["foreign"] += 1
        model.unload()
    return found


def _is_tie(again: tuple[int, ...], then: tuple[int, ...], margins: tuple[float, ...]) -> bool:
    """Whether the first token that differs had a rival as likely but for rounding."""
    place = next((at for at, (one, other) in enumerate(zip(again, then, strict=False)) if one != other), None)
    return place is not None and margins[place] < 0.05


def first_token(base: ServedBase, student: Path, prompt: list[int]) -> float:
    """Seconds from the swap's beginning to the first token of a student nobody has asked yet, on an idle server."""
    slot, model = ModelSlot(cast(BaseChatModel, model_of(base))), model_of(base)
    start = time.perf_counter()
    report = swap_student(slot, model, student)
    assert report.ok, report.reason
    seated = slot.model(slot.lease("one"))
    assert isinstance(seated, VllmChatModel)
    seated.greedy(prompt, 1)
    taken = time.perf_counter() - start
    slot.release("one")
    seated.unload()
    return taken


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    students_folder = folder / "students"
    students = make_students(students_folder, args.swaps)
    world = make_world(1500, split="test", seed=0)
    (folder / "passages.jsonl").write_text("".join(passage.model_dump_json() + "\n" for passage in world.passages))
    build_index([folder / "passages.jsonl"], folder / "index")
    retriever = open_index(folder / "index")
    questions = [question.text for question in make_questions(world, 400, seed=0, mix=CHAINS)]
    base = start_base(BASE, (students_folder,), dtype=args.dtype, max_loras=4, max_cpu_loras=8, max_lora_rank=RANK)
    with Journal(folder / "ours.jsonl") as journal:
        load = loaded(ModelSlot(model_of(base)), retriever, questions, journal)
        swapped = await swapped_under_load(base, load, students, args)
    swapped |= await asyncio.to_thread(checked, base, folder / "ours.jsonl", students, args.checked)
    prompt = list(range(10, 300))
    swapped["ttft_new_s"] = statistics.median([await asyncio.to_thread(first_token, base, one, prompt) for one in students[:5]])
    tell(swapped, args)
    assert base.server
    others = {}
    for how in NAIVE:
        with Journal(folder / f"{how}.jsonl") as journal:
            load = loaded(ModelSlot(model_of(base)), retriever, questions, journal)
            some, restarts = students[: max(2, args.swaps // 5)], base.server.restarts
            await under_load(load, args.askers, lambda how=how, load=load, some=some: naive(how, base, load, some, args.pause))  # type: ignore[misc]
        base.server.wait_ready(300.0)
        others[how] = {"swaps": len(some), "runs": load.runs, "failed": load.failed, "reasons": load.reasons,
                       "engine_deaths": base.server.restarts - restarts}
    base.server.stop()
    return {**swapped, **{f"naive_{how}": told for how, told in others.items()}}


def tell(found: dict[str, Any], args: argparse.Namespace) -> None:
    print(f"{args.swaps} swaps under {args.askers} streaming runs: {found['failed']} of {found['runs']} runs failed, "
          f"{found['mixed_runs']} of mixed versions, {found['foreign']} of {found['checked']} turns foreign ({found['ties']} near-ties)")
    print(f"switch p95 {found['switch_ms_p95']:.2f} ms, load p95 {found['load_ms_p95']:.0f} ms, canary p95 {found['canary_ms_p95']:.0f} ms, "
          f"first token of a new student {found['ttft_new_s']:.2f} s, memory {found['memory_growth']:+.1%} after the first five")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--swaps", type=int, default=50, help="students that take the seat (default: 50)")
    parser.add_argument("--askers", type=int, default=16, help="runs under way at any moment (default: 16)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two swaps (default: 0.5)")
    parser.add_argument("--warm", type=float, default=60.0, help="seconds of asking after the first five (default: 60)")
    parser.add_argument("--checked", type=int, default=8, help="turns of each version that are sent again (default: 8)")
    parser.add_argument("--dtype", default="float32", help="of the served model (default: float32)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="steper-swap-"))
    try:
        found = asyncio.run(measure(args, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for how in NAIVE:
        told = found[f"naive_{how}"]
        print(f"{how}: {told['failed']} of {told['runs']} runs failed in {told['swaps']} swaps, the engine died {told['engine_deaths']} times")
    if args.json:
        command = f"python benchmarks/swap.py --json {args.json} --swaps {args.swaps} --askers {args.askers} --pause {args.pause:g} --dtype {args.dtype}"
        args.json.write_text(json.dumps({"command": command, **found, "versions": versions()}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
