"""The whole loop on the micro-world, told in plain words: python -m training.demo --out runs/demo

Index, collect, dataset, distill, evaluate, swap: the same verbs a user runs by hand, on a small world made for it.
Stopped or killed, the same command goes on; a finished demo is moved aside and a new one begins.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.table import Table

from graphs.strategies import strategy_named
from steper_agent.config import Config, command_line
from steper_agent.durable import digest_file, write_atomic, write_lines
from steper_agent.retrieval import build_index
from steper_agent.students.weights import count_parameters
from training.collect import JOURNAL, CollectConfig, collect
from training.dataset import DatasetConfig
from training.dataset import build as build_dataset
from training.demo.report import DemoReport, Judged, SwapStory, write_html
from training.demo.swap_live import swap_live
from training.distill import DistillConfig, Distilled
from training.distill import run as distill
from training.evaluate import EvaluateConfig, Report, evaluate
from training.loop.live import Live
from training.microworld import BASE
from training.microworld.questions import CHAINS, make_questions
from training.microworld.world import Split, make_world
from training.models import open_model
from training.run_folder import claim
from training.verb import versions

REPORT, SECONDS = "report.json", "seconds.json"
SIDE_BY_SIDE = 24
"""Questions that are judged at once."""


class DemoConfig(Config):
    """Settings of `python -m training.demo`; the defaults take about five minutes on two cores."""

    out: Path = Field(Path("runs/demo"), description="run folder")
    base: Path = Field(BASE, description="the micro-world's base model")
    learn_passages: int = Field(6000, ge=100, description="passages of the world to learn in; few are met twice")
    passages: int = Field(1500, ge=100, description="passages of the world with unseen names to be judged in")
    questions: int = Field(3600, gt=0, description="questions the teacher answers for the student to learn from")
    held_out: int = Field(300, ge=3, description="questions over unseen names that everyone is judged by")
    strategy: str = Field("ircot", description="how to reason in steps: ircot, self_ask or tool_calling")
    k: int = Field(3, gt=0, description="passages a search returns")
    steps: int = Field(5, gt=0, description="step budget")
    batch: int = Field(8, gt=0, description="trajectories in one update")
    epochs: int = Field(1, gt=0, description="passes over the data set")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate")
    sigma_rate: float = Field(0.02, gt=0, description="learning rate of log σ²")
    max_tokens: int = Field(96, gt=0, description="most tokens of one turn; a line takes about 25, a tool call 50 more")
    seed: int = Field(0, description="seed of the worlds, the questions and the training")


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(DemoConfig, "demo", __doc__ or "", argv)
    report = demo(config, Console(emoji=False))
    return 0 if report.swap.failed_runs == 0 else 1


def demo(config: DemoConfig, console: Console) -> DemoReport:
    """The loop, phase by phase. Every phase is the verb of its own module and resumes by itself."""
    _begin(config.out)
    claim(config.out, config, free=("out",))
    clock = Clock(console, config.out / SECONDS)
    with clock.phase("index", "Two encyclopaedias are made up, one to learn in and one whose names nobody has met, and indexed."):
        train, test = (_make_world(config, split) for split in ("train", "test"))
    with clock.phase("collect", f"The teacher answers {config.questions} multi-hop questions through the graph; every node is journalled."):
        collected = collect(CollectConfig(index=train / "index", questions=train / "questions.jsonl", out=config.out / "collect",
                                          strategy=config.strategy, k=config.k, steps=config.steps,
                                          max_tokens=config.max_tokens, concurrency=16))
        console.print(f"  {collected.finished} trajectories, {collected.stops}")
    with clock.phase("dataset", "From the journal: one example a step (initialization, expansion, aggregation), right answers only."):
        # In a conversation every turn is the last one of some example: taught cumulatively, the first turns would be taught
        # again with each later one, and drown the one token that decides whether to search on or to conclude.
        target = "incremental" if strategy_named(config.strategy).TOOLS else "cumulative"
        card = build_dataset(DatasetConfig(journal=(config.out / "collect" / JOURNAL,), base=config.base, target=target,
                                           out=config.out / "dataset"))
        console.print(f"  examples: {card.examples}, {card.tokens} tokens, {card.learned_tokens} of them to be learned")
    with clock.phase("distill", "A student (LoRA on the base model) learns the steps; σ weighs the kinds by their difficulty."), Live() as live:
        student = distill(DistillConfig(
            dataset=config.out / "dataset", base=config.base, out=config.out / "distill", batch=config.batch,
            learning_rate=config.learning_rate, sigma_rate=config.sigma_rate, epochs=config.epochs, seed=config.seed,
        ), on_update=live.show, command="python -m training.demo")  # fmt: skip
    specs = {"teacher": "symbolic", "base": f"local:{config.base}", "student": f"local:{config.base}+{student.student}"}
    judged: dict[str, Judged] = {}
    for who, spec in specs.items():
        with clock.phase(f"evaluate {who}", f"{config.held_out} questions about unseen names, answered by the {who}."):
            judged[who] = _judge(config, test, who, spec)
    with clock.phase("swap", "The base model is answering live; the student takes its seat in the same graph, without a restart."):
        story = _swap(config, test, student, console)
    return _finish(config, console, clock, student, judged, story)


class Clock:
    """Tells each phase as it begins and notes its seconds, those of an earlier start included."""

    def __init__(self, console: Console, path: Path) -> None:
        self.console, self.path = console, path
        self.seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @contextmanager
    def phase(self, name: str, words: str) -> Iterator[None]:
        self.console.rule(f"[bold]{name}")
        self.console.print(words)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)
            write_atomic(self.path, json.dumps(self.seconds) + "\n")
        self.console.print(f"  [dim]{self.seconds[name]:.0f} s[/dim]")


def _begin(out: Path) -> None:
    """A finished demo makes room for a new one; nothing is deleted."""
    if not (out / REPORT).is_file():
        return
    number = next(n for n in range(1, 10_000) if not out.with_name(f"{out.name}-{n}").exists())
    os.rename(out, out.with_name(f"{out.name}-{number}"))


def _make_world(config: DemoConfig, split: Split) -> Path:
    folder = config.out / split
    size, count = (config.learn_passages, config.questions) if split == "train" else (config.passages, config.held_out)
    world = make_world(size, split=split, seed=config.seed)
    write_lines(folder / "passages.jsonl", world.passages)
    write_lines(folder / "questions.jsonl", make_questions(world, count, seed=config.seed, mix=CHAINS))
    build_index([folder / "passages.jsonl"], folder / "index")
    return folder


def _judge(config: DemoConfig, world: Path, who: str, spec: str) -> Judged:
    report: Report = evaluate(EvaluateConfig(
        index=world / "index", questions=world / "questions.jsonl", model=spec, strategy=config.strategy, k=config.k,
        steps=config.steps, max_tokens=config.max_tokens, concurrency=SIDE_BY_SIDE, out=config.out / "evaluate" / who,
    ))  # fmt: skip
    found = report.evaluation
    return Judged(**found.score.model_dump(), seconds=found.cost.seconds_mean / SIDE_BY_SIDE if found.cost else 0.0, parameters=_parameters(config, who),
                  support_recall=found.support_recall, failures=found.failures)


def _parameters(config: DemoConfig, who: str) -> int:
    """Parameters a model needs to serve; the symbolic teacher has none."""
    if who == "teacher":
        return 0
    return count_parameters(config.base) + (count_parameters(config.out / "distill" / "student") if who == "student" else 0)


def _swap(config: DemoConfig, world: Path, student: Distilled, console: Console) -> SwapStory:
    from graphs.run import Context
    from steper_agent.retrieval import open_index, read_questions

    base = open_model(f"local:{config.base}", max_tokens=config.max_tokens)
    context = Context(model=base, retriever=open_index(world / "index"), strategy=config.strategy, k=config.k, steps=config.steps)
    return swap_live(context, student.student, read_questions(world / "questions.jsonl")[:60],
                     tell=lambda words: console.print(words, markup=False, highlight=False))


def _digests(config: DemoConfig) -> dict[str, str]:
    """SHA-256 of everything the student was made from and judged by."""
    files = ["train/passages.jsonl", "train/questions.jsonl", "test/passages.jsonl", "test/questions.jsonl",
             "collect/journal.jsonl", "dataset/examples.jsonl"]
    made = {name: digest_file(config.out / name) for name in files}
    return {**made, "base": digest_file(config.base / "model.safetensors")}


def _finish(
    config: DemoConfig, console: Console, clock: Clock, student: Distilled, judged: dict[str, Judged], story: SwapStory
) -> DemoReport:
    report = DemoReport(
        teacher=judged["teacher"], base=judged["base"], student=judged["student"], swap=story, seconds=clock.seconds,
        step=[point.step for point in student.curve], loss=[point.loss for point in student.curve],
        sigma=[point.sigma for point in student.curve],
        recipe={"settings": json.loads(config.model_dump_json()), "distill": student.settings, "student": student.name,
                "digests": _digests(config), "versions": versions()},
    )  # fmt: skip
    write_atomic(config.out / "report.html", write_html(report, [config.out / "distill" / "loss.png", config.out / "distill" / "sigma.png"]))
    write_atomic(config.out / REPORT, report.model_dump_json(indent=1) + "\n")
    table = Table("", "EM", "95 % of EM", "F1", "Acc", "s a question", "parameters", title=f"{config.held_out} held-out questions")
    for who, row in judged.items():
        table.add_row(who, f"{row.em:.3f}", f"{row.ci[0]:.3f} – {row.ci[1]:.3f}", f"{row.f1:.3f}", f"{row.acc:.3f}",
                      f"{row.seconds:.3f}", f"{row.parameters:,}" if row.parameters else "symbolic")
    console.print(table)
    for name in (REPORT, "report.html", "distill/loss.png", "distill/sigma.png"):
        console.print(f"  {config.out / name}")
    return report
