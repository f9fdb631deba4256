"""`steper chat`: the cockpit in the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tui.index import count

ABOUT = "chat in the terminal: every step, the passages, students, runs"
SWITCH = 0.0005
"""Seconds, a tenth of Python's own."""
EXAMPLES = """\
with nothing given it opens the micro-world, where a teacher answers questions about made-up people and films:
  steper chat
your own documents and models:
  steper chat --index runs/index --model openai:gpt-4o-mini
  steper chat --index runs/index --model local:models/small --registry runs/registry

keys: enter asks, ctrl+j begins a new line, escape stops, f1 shows all others, ctrl+p every command, ctrl+q quits.
"""


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `chat`, and `tui` as another word for it."""
    parser = subparsers.add_parser("chat", aliases=["tui"], help=ABOUT, description=f"{ABOUT.capitalize()}.", epilog=EXAMPLES,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, metavar="DIR", help="made by: steper index build (default: the micro-world)")
    parser.add_argument("--model", metavar="SPEC", help="local:PATH, local:PATH+STUDENT, vllm:PATH, openai:NAME, … (default: symbolic, "
                                                        "the micro-world's teacher)")
    parser.add_argument("--strategy", default="ircot", help="how to reason in steps (default: ircot)")
    parser.add_argument("-k", type=count, default=4, metavar="N", help="passages a search returns (default: 4)")
    parser.add_argument("--steps", type=count, default=5, metavar="N", help="step budget (default: 5)")
    parser.add_argument("--max-tokens", type=count, default=128, metavar="N", help="most tokens in one step (default: 128)")
    parser.add_argument("--registry", type=Path, metavar="DIR", help="students to look at and to swap in (default: $STEPER_REGISTRY)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders are (default: runs)")
    parser.add_argument("--conversations", type=Path, metavar="FILE", help="where conversations are kept (default: $STEPER_CONVERSATIONS, "
                                                                          "else steper/conversations.db in the user's data folder)")
    parser.set_defaults(run=chat)


def chat(args: argparse.Namespace) -> int:
    from steper_agent.errors import ConfigError
    from tui.app.app import Cockpit
    from tui.app.desk import WORLD, Choice

    if args.index and not args.model:
        raise ConfigError("an index of your own needs a model that reads it", where="--model", fix="give --model SPEC")
    choice = Choice(model=args.model or "symbolic", index=str(args.index or WORLD), strategy=args.strategy, k=args.k,
                    steps=args.steps, max_tokens=args.max_tokens)
    named = args.registry or os.environ.get("STEPER_REGISTRY")
    # A model that answers in this process holds the interpreter for so long at a time, and every key needs it several times.
    sys.setswitchinterval(SWITCH)
    app = Cockpit(choice, registry=Path(named) if named else None, runs=args.runs, conversations=args.conversations)
    app.run()
    return app.return_code or 0
