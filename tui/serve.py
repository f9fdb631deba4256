"""`steper serve`: the graph behind an OpenAI-compatible HTTP door, for any chat client."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.arguments import add_answering, count, port, seconds

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from steper_agent.journal import Journal
    from steper_agent.models.slot import ModelSlot


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `serve` on the main command line."""
    parser = subparsers.add_parser(
        "serve", help="answer any OpenAI client over HTTP",
        description="Serve an index and a model as an OpenAI-compatible API: chat completions, streamed or not.",
        # `--token SECRET` must not pass for `--token-file`: it would stand in everybody's list of processes.
        allow_abbrev=False,
        epilog="A token asked of every client is read from --token-file or $STEPER_TOKEN; hosts other than this machine need one.",
    )  # fmt: skip
    parser.add_argument("--index", type=Path, required=True, metavar="DIR", help="made by: steper index build")
    parser.add_argument("--model", required=True, metavar="SPEC",
                        help="local:PATH, vllm:PATH, local:PATH+STUDENT, openai:NAME, … or symbolic (the micro-world's teacher)")
    add_answering(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8321, help="0 takes a free one (default: 8321)")
    parser.add_argument("--name", default="steper", help="what clients call the model (default: steper)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="holds the bearer token to ask for")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="append what every node did to this journal")
    parser.add_argument("--registry", type=Path, metavar="DIR",
                        help="serve the student that is live there, and follow: what is promoted comes to serve here")
    parser.add_argument("--max-inflight", type=count, default=64, metavar="N", help="questions answered at once (default: 64)")
    parser.add_argument("--grace", type=seconds, default=30.0, metavar="S",
                        help="seconds that running questions may take when it is told to stop (default: 30)")
    parser.add_argument("--verbose", action="store_true", help="log every request")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    import logging

    from graphs.serving.app import create_app
    from graphs.state import Context
    from steper_agent.journal import Journal
    from steper_agent.retrieval import open_retriever
    from steper_agent.web.access import bind, names_of, read_token, url_of
    from steper_agent.web.serving import serve_app
    from training.models import open_model

    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    token = read_token(args.token_file)
    with ExitStack() as opened:
        # Before anything that takes long to load, so that a port in use is told at once.
        sock = opened.enter_context(bind(args.host, args.port, has_token=token is not None))
        students = [args.registry / "students"] if args.registry else []
        index, model = open_retriever(args.index), open_model(args.model, max_tokens=args.max_tokens, students=students)
        journal = opened.enter_context(Journal(args.journal, lossy=True)) if args.journal else None
        seated = opened.enter_context(following(model, args.registry, journal)) if args.registry else model
        context = Context(model=seated, retriever=index, strategy=args.strategy, k=args.k, steps=args.steps, journal=journal)
        app = create_app(context, name=args.name, token=token, max_inflight=args.max_inflight,
                         hosts=() if token else names_of(args.host))
        key = "your token" if token else "any text"
        said = f'serving {url_of(sock)}/v1: give any OpenAI client this base_url, model "{args.name}" and {key} as api_key'
        serve_app(app, sock, grace=args.grace, access_log=args.verbose, on_ready=lambda: print(said, flush=True))
    return 0


@contextmanager
def following(model: BaseChatModel, folder: Path, journal: Journal | None) -> Iterator[ModelSlot]:
    """The seat of this model, given to whoever the registry in the folder says."""
    from steper_agent.errors import ConfigError
    from steper_agent.models.slot import ModelSlot
    from steper_agent.students.registry import Registry
    from steper_agent.students.swap import Swappable
    from steper_agent.students.usher import Usher

    if not isinstance(model, Swappable):
        raise ConfigError("no student can take the seat of this model", where="--registry", fix="give --model local:PATH or vllm:PATH")
    if getattr(model, "adapter", None):
        raise ConfigError("the model holds a student already, and the registry says which one serves", where="--model",
                          fix="give the base alone, without +STUDENT")
    slot = ModelSlot(model)
    with Usher(slot, model, Registry(folder), on_swap=journal.append if journal else None):
        yield slot
