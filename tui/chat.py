"""`steper chat`: the cockpit in the terminal."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import threading
from pathlib import Path
from typing import Any

from tui.arguments import add_answering

ABOUT = "chat in the terminal: every step, the passages, students, runs"
SWITCH = 0.0005
"""Seconds, a tenth of Python's own."""
EXAMPLES = """\
with nothing given it opens the micro-world, where a teacher answers questions about made-up people and films:
  steper chat
your own documents and models:
  steper chat --index runs/index --model openai:gpt-4o-mini
  steper chat --index runs/index --model local:models/small --registry runs/registry --gate dev.jsonl
a run that was started elsewhere:
  steper chat --follow runs/distill

keys: enter asks, ctrl+j begins a new line, escape stops, f1 shows all others, ctrl+p every command, ctrl+q quits.
"""


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `chat`, and `tui` as another word for it."""
    parser = subparsers.add_parser("chat", aliases=["tui"], help=ABOUT, description=f"{ABOUT.capitalize()}.", epilog=EXAMPLES,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, metavar="DIR", help="made by steper index build, or the address of steper index serve (default: the micro-world)")
    parser.add_argument("--model", metavar="SPEC", help="local:PATH, local:PATH+STUDENT, vllm:PATH, openai:NAME, … (default: symbolic, "
                                                        "the micro-world's teacher)")
    add_answering(parser)
    parser.add_argument("--registry", type=Path, metavar="DIR", help="students to look at and to swap in (default: $STEPER_REGISTRY)")
    parser.add_argument("--live", action="store_true", help="answer with the student that is live there, and follow: what is promoted "
                                                            "comes to answer here")
    parser.add_argument("--gate", type=Path, metavar="FILE", help="questions with answers, for the gate that a student passes before it "
                                                                  "is swapped in (default: the micro-world has its own)")
    parser.add_argument("--min-delta", type=float, default=-1.0, metavar="POINTS",
                        help="least gain in points of EM at that gate; -1 allows to lose one (default: -1)")
    parser.add_argument("--follow", type=Path, metavar="DIR", help="look at the run in this folder first, wherever it was started")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders are (default: runs)")
    parser.add_argument("--conversations", type=Path, metavar="FILE", help="where conversations are kept (default: $STEPER_CONVERSATIONS, "
                                                                          "else steper/conversations.db in the user's data folder)")
    parser.set_defaults(run=chat)


def chat(args: argparse.Namespace) -> int:
    from steper_agent.errors import ConfigError
    from tui.app.app import Cockpit
    from tui.app.desk import WORLD, Choice
    from tui.app.swapping import Gate

    named = args.registry or os.environ.get("STEPER_REGISTRY")
    if args.index and not args.model:
        raise ConfigError("an index of your own needs a model that reads it", where="--model", fix="give --model SPEC")
    if args.live and not named:
        raise ConfigError("nobody says who is live", where="--live", fix="give --registry DIR, or set $STEPER_REGISTRY")
    if args.gate and not args.gate.is_file():
        raise ConfigError("no such file of questions", where=args.gate, fix="check the path given to --gate")
    choice = Choice(model=args.model or "symbolic", index=str(args.index or WORLD), strategy=args.strategy, k=args.k,
                    steps=args.steps, max_tokens=args.max_tokens)
    # A model that answers in this process holds the interpreter for so long at a time, and every key needs it several times.
    sys.setswitchinterval(SWITCH)
    ours = set(threading.enumerate())
    app = Cockpit(choice, registry=Path(named) if named else None, runs=args.runs, conversations=args.conversations,
                  gate=Gate(args.gate, args.min_delta), live=args.live, follow=args.follow)  # fmt: skip
    app.run()
    return leave(app.return_code or 0, ours)


def leave(code: int, ours: set[threading.Thread]) -> int:
    """The exit code, where no other thread is left. Else the process ends with it here: whoever quits waits for no model that loads and
    no gate that asks, and Python must not end under a thread that computes."""
    if set(threading.enumerate()) <= ours:
        return code
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
