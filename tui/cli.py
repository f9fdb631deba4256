"""The command `steper`: a thin shell. It parses, calls one room, prints, and returns a code; no rule lives here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from steper_agent.errors import StepERError, told
from tui import ask, chat, doctor, index, serve, students, vllm

EPILOG = """\
teaching and judging a student:
  python -m training.collect    run a teacher through the graph and journal every node
  python -m training.dataset    make a step-wise data set from the journal
  python -m training.distill    train the student
  python -m training.evaluate   EM, F1, Acc and support recall, with intervals
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 2 something to mend (said in three lines), 130 stopped from the keyboard."""
    parser = argparse.ArgumentParser(
        prog="steper", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Answer hard questions over your own documents in steps, with a model small enough to keep.",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chat.add_arguments(commands)
    ask.add_arguments(commands)
    index.add_arguments(commands)
    serve.add_arguments(commands)
    vllm.add_arguments(commands)
    students.add_arguments(commands)
    doctor.add_arguments(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except (StepERError, OSError) as error:
        print(told(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
