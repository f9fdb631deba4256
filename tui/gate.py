"""`steper students promote --gate`: the candidate and the one that is live answer the same questions before anybody is answered
by the candidate."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tui.arguments import add_answering

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from steper_agent.students.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a quality gate: both answer questions through the graph, and are compared one by one")
    group.add_argument("--gate", type=Path, metavar="FILE", help="a file of questions with answers: HotpotQA, 2WikiMultiHopQA, MuSiQue, "
                                                                 "own JSON lines or a table with id, question and answer")
    group.add_argument("--min-delta", type=float, default=-1.0, metavar="POINTS",
                       help="least gain in points of EM; -1 allows to lose one (default: -1)")
    group.add_argument("--index", type=Path, metavar="DIR", help="made by: steper index build")
    group.add_argument("--model", metavar="SPEC", help="what runs the base: local:PATH, vllm:PATH, or vllm:PATH@URL on the servers "
                                                       "that serve already (default: local: and --base)")
    add_answering(group)


def run(args: argparse.Namespace, registry: Registry, name: str, live: str | None) -> dict[str, float]:
    """What the candidate scored beside the one that is live.

    Raises:
        AdapterError: it falls short.
        ConfigError: what they should answer with is not given.
    """
    from steper_agent.errors import AdapterError, ConfigError

    spec = args.model or (args.base and f"local:{args.base}")
    if not spec or not args.index:
        raise ConfigError("a gate needs a base and an index to answer with", where="--gate", fix="give --base DIR and --index DIR")
    from graphs.run import Context
    from steper_agent.models.spec import open_model
    from steper_agent.retrieval import open_retriever, read_questions
    from steper_agent.students.swap import Swappable, unload
    from training.gate import compare
    from training.verb import quiet_libraries

    quiet_libraries()
    retriever, questions = open_retriever(args.index), read_questions(args.gate, need_answers=True)
    base = open_model(spec, max_tokens=args.max_tokens, students=[registry.folder / "students"])
    if not isinstance(base, Swappable):
        raise ConfigError("no student can take the seat of this model", where="--model", fix="give local:PATH or vllm:PATH")
    context = Context(model=base, retriever=retriever, strategy=args.strategy, k=args.k, steps=args.steps)

    with ExitStack() as loaded:

        def seated(student: str) -> BaseChatModel:
            """Unloaded again, whatever happens: the server may be one that others ask."""
            model: BaseChatModel = base.with_student(registry.path_of(student))
            loaded.callback(unload, model)
            return model

        candidate, incumbent = seated(name), seated(live) if live else base
        report = compare(incumbent, candidate, context, questions, min_delta=args.min_delta)
    print(f"{name} beside {live or 'the bare base'}: {report}")
    if not report.is_passed:
        raise AdapterError(f"{name} falls short by {report.min_delta - report.delta:.1f} points", where=args.gate,
                           fix="train it longer, or allow more with --min-delta")
    return {"em": report.after / 100, "gate_delta": report.delta}
