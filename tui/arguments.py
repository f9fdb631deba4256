"""Values that several verbs of `steper` read from the command line, and what argparse says of them."""

from __future__ import annotations

import argparse
import math

STRATEGIES = ("ircot", "self_ask", "tool_calling", "single_step", "direct", "chain_of_note", "sail", "self_rag")
"""Those of `graphs.strategies`, which takes longer to import than a help text may."""
RERANK = "have a cross-encoder read the first hits again: cross-encoder:NAME"


def add_answering(parser: argparse._ActionsContainer) -> None:
    """Flags of how a question is answered."""
    parser.add_argument("--strategy", default="ircot", choices=STRATEGIES, metavar="NAME",
                        help=f"how to reason in steps: {', '.join(STRATEGIES)} (default: ircot)")
    parser.add_argument("-k", type=count, default=4, metavar="N", help="passages a search returns (default: 4)")
    parser.add_argument("--steps", type=count, default=5, metavar="N", help="step budget (default: 5)")
    parser.add_argument("--max-tokens", type=count, default=128, metavar="N", help="most tokens in one step (default: 128)")


def count(text: str) -> int:
    """A number of things, at least one, as argparse reads it."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def port(text: str) -> int:
    """An argument that is a port number."""
    if text.isdecimal() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port number")


def seconds(text: str) -> float:
    """An argument that is a time, not less than nothing."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value < math.inf:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
