"""Values that several verbs of `steper` read from the command line, and what argparse says of them."""

from __future__ import annotations

import argparse
import math

RERANK = "have a cross-encoder read the first hits again: cross-encoder:NAME"


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
