"""A server that says, and breaks off, as a test tells it: the wire is real, the words are not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Refusal = tuple[int, dict[str, str]]
Says = Callable[[int, Body], Iterator[bytes | int | Refusal]]
"""From the number of the request and its body to pieces of the stream; a whole number first is the status, also with headers, a
last -1 breaks the connection."""


def told(ids: list[int], reason: str | None = None) -> bytes:
    return f"data: {json.dumps({'choices': [{'token_ids': ids, 'finish_reason': reason}]})}\n\n".encode()


DONE = b"data: [DONE]\n\n"


@contextmanager
def scripted(says: Says) -> Iterator[tuple[str, list[Body]]]:
    """Its address, and the requests it got."""
    bodies: list[Body] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or "{}")
            with lock:
                number = len(bodies)
                bodies.append(body)
            pieces = says(number, body)
            first = next(pieces)
            status, headers = first if isinstance(first, tuple) else (first if isinstance(first, int) else 200, {})
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in (first if isinstance(first, bytes) else b"", *pieces):
                if piece == -1:
                    self.close_connection = True
                    self.connection.close()
                    return
                if piece:
                    assert isinstance(piece, bytes)
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # A client that gave up is what some tests are about.

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
