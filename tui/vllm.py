"""`steper vllm`: a vLLM server that stands, for many commands and processes to ask."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from tui.arguments import count, port

EPILOG = """\
It asks for two tokens, from $STEPER_VLLM_TOKEN (to ask it) and $STEPER_VLLM_ADMIN_TOKEN (to load students); those that are not
set are made up and printed. Whoever has them uses the server as the model vllm:MODEL@http://127.0.0.1:PORT.

  steper vllm models/small --students runs/registry/students
  steper vllm models/large --vllm="--tensor-parallel-size 2 --max-model-len 8192"

A server of its own is not needed for one command: --model vllm:MODEL starts one, and ends it with the command.
"""


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `vllm` on the main command line."""
    parser = subparsers.add_parser(
        "vllm", help="serve a base model and its students with vLLM", epilog=EPILOG, allow_abbrev=False,
        description="Serve a base model and its students with vLLM, watched and started again when it dies, until Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("base", type=Path, metavar="MODEL", help="folder of the base model, or of a student with full weights")
    parser.add_argument("--students", type=Path, action="append", default=[], metavar="DIR",
                        help="a folder that students may be loaded from; none serves the base alone")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8322, help="0 takes a free one (default: 8322)")
    parser.add_argument("--max-loras", type=count, default=4, metavar="N", help="students in one batch, at least 2 (default: 4)")
    parser.add_argument("--max-lora-rank", type=count, default=32, metavar="R", help="largest rank of a student, up to 512 (default: 32)")
    parser.add_argument("--dtype", default="auto", help="auto (default: as the model was saved), float32, bfloat16, float16")
    parser.add_argument("--kv-gib", type=count, default=1, metavar="N", help="GiB of cache on a CPU (default: 1)")
    parser.add_argument("--vllm", default="", metavar="WORDS", help='further words of its own command line: --vllm="--max-model-len 8192"')
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    import shlex
    import signal
    import time

    from pydantic import ValidationError
    from rich.console import Console

    from steper_agent.errors import ConfigError
    from steper_agent.students.fingerprint import base_fingerprint
    from steper_agent.vllm.guard import ADMIN_TOKEN, TOKEN
    from steper_agent.vllm.launch import Launch
    from steper_agent.vllm.served_base import name_of
    from steper_agent.vllm.server import Server
    from steper_agent.web.access import bind

    console = Console(emoji=False, highlight=False, soft_wrap=True)
    # Before anything that takes long; and whoever listens there already would pass for our server, being well.
    with bind(args.host, args.port, has_token=True) as sock:
        free = sock.getsockname()[1]
    name = name_of(args.base, base_fingerprint(args.base))
    try:
        launch = Launch(model=args.base.resolve(), name=name, students=tuple(args.students), max_loras=args.max_loras,
                        max_lora_rank=args.max_lora_rank, dtype=args.dtype, kv_gib=args.kv_gib, host=args.host, port=free,
                        extra=tuple(shlex.split(args.vllm)))  # fmt: skip
    except ValidationError as bad:
        first = bad.errors()[0]
        flag = f"--{first['loc'][0]}".replace("_", "-")
        raise ConfigError(f"{flag}: {first['msg']}", where="steper vllm", fix=f"give {flag} as described by --help") from bad
    # Ended like Ctrl-C by whoever sends a plain kill, so that the server is stopped and not only let go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with console.status(f"vLLM is starting; {launch.name} answers in about half a minute"):
        server = Server(launch).start()
    try:
        endpoint = server.client.endpoint
        console.print(f"serving {launch.name}: --model vllm:{args.base}@{endpoint.url}", markup=False)
        for name, token in ((TOKEN, endpoint.token), (ADMIN_TOKEN, endpoint.admin_token)):
            if not os.environ.get(name):
                console.print(f"export {name}={token}", markup=False)
        console.print(f"log: {server.log}", markup=False)
        while not server.is_over:
            time.sleep(0.5)
        server.wait_ready(0)
    finally:
        server.stop()
    return 0
