"""`steper index serve`: an index behind HTTP, for graphs on other machines and for many processes on this one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.arguments import RERANK, count, port, seconds

if TYPE_CHECKING:
    from steper_agent.retrieval.following import Opened

EPILOG = """\
examples:
  steper index serve runs/index                      on this machine, port 8323
  steper index search http://127.0.0.1:8323 "Emma"   a service stands wherever an index folder does
  curl -s localhost:8323/search -H 'Content-Type: application/json' -d '{"query": "Emma", "k": 2}'

The token asked of every client is read from --token-file or $STEPER_TOKEN, and clients send that of their own
$STEPER_TOKEN; hosts other than this machine need one. What is added to the index, deleted from it or built anew is served
a second later, without a request lost.
"""


def add_arguments(verbs: argparse._SubParsersAction[Any]) -> None:
    """Register `serve` among the verbs of `index`."""
    parser = verbs.add_parser(
        "serve",
        help="let other programs search an index over HTTP",
        description="Serve an index over HTTP: searches that come at the same time are searched together.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # `--token SECRET` must not pass for `--token-file`: it would stand in everybody's list of processes.
        allow_abbrev=False,
        epilog=EPILOG,
    )
    parser.add_argument("index", type=Path, metavar="DIR")
    parser.add_argument("--rerank", metavar="SPEC", help=RERANK)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8323, help="0 takes a free one (default: 8323)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="holds the bearer token to ask for")
    parser.add_argument(
        "--max-k", type=count, default=100, metavar="N", help="most hits a query may ask for (default: 100)"
    )
    parser.add_argument(
        "--max-queries", type=count, default=256, metavar="N", help="most queries in one request (default: 256)"
    )
    parser.add_argument(
        "--max-inflight", type=count, default=256, metavar="N", help="requests answered at once (default: 256)"
    )
    parser.add_argument(
        "--cache-mb",
        type=int,
        default=64,
        metavar="MB",
        help="memory for hits found before; 0 keeps none (default: 64)",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=30.0, metavar="S", help="seconds a search may take (default: 30)"
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=10.0,
        metavar="S",
        help="seconds for what runs when it is told to stop (default: 10)",
    )
    parser.add_argument("--verbose", action="store_true", help="log every request")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    import logging

    from steper_agent.retrieval import open_index
    from steper_agent.retrieval.cache import SearchCache
    from steper_agent.retrieval.following import Following, opened
    from steper_agent.retrieval.manifest import MANIFEST
    from steper_agent.retrieval.rerank import reranker_from
    from steper_agent.retrieval.service import create_search_app
    from steper_agent.retrieval.wire import Limits
    from steper_agent.web.access import bind, names_of, read_token, url_of
    from steper_agent.web.serving import serve_app

    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    token = read_token(args.token_file)
    reranker = reranker_from(args.rerank) if args.rerank else None

    def open_newest() -> Opened:
        return opened(open_index(args.index, reranker=reranker), timeout=args.timeout or None)

    # The address before anything that takes long to load, so that a port in use is told at once.
    with (
        bind(args.host, args.port, has_token=token is not None) as sock,
        Following(args.index / MANIFEST, open_newest) as following,
    ):
        app = create_search_app(
            lambda: following.current,
            token=token,
            hosts=() if token else names_of(args.host),
            limits=Limits(args.max_k, args.max_queries, args.max_inflight),
            cache=SearchCache(bytes=max(0, args.cache_mb) << 20),
        )
        held = following.current.index.manifest
        said = f"serving {held.passages:,} passages ({held.mode}) at {url_of(sock)}"
        serve_app(app, sock, grace=args.grace, access_log=args.verbose, on_ready=lambda: print(said, flush=True))
    return 0
