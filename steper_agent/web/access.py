"""Who may come in: the token, the address that is listened on, and what the one asks of the other."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from steper_agent.errors import ConfigError

VARIABLE = "STEPER_TOKEN"


def read_token(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token of a file, else of the environment, else none. Never of the command line, which every user can list.

    Raises:
        ConfigError: the file cannot be read, or the token is blank or could not be sent.
    """
    where: object = file or f"${VARIABLE}"
    if file is None and VARIABLE not in environment:
        return None
    try:
        token = (environment[VARIABLE] if file is None else file.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as bad:
        raise ConfigError(f"cannot read the token: {bad}", where=where, fix="check --token-file") from bad
    if not token:
        raise ConfigError(
            "the token is blank", where=where, fix="put one there (openssl rand -hex 32), or leave it out"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            "the token cannot be sent in a header", where=where, fix="use one line of letters, digits and signs"
        )
    return token


def bind(host: str, port: int, *, has_token: bool) -> socket.socket:
    """A bound socket, not listening yet; port 0 takes a free one.

    Raises:
        ConfigError: without a token others could come in, or the address cannot be had.
    """
    if not has_token and not is_loopback(host):
        raise ConfigError(
            f"anybody who reaches {host} could use this server: there is no token",
            where="--host",
            fix=f"set {VARIABLE} or give --token-file FILE, or listen on 127.0.0.1",
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Named, because asyncio sends small pieces at once only where it is sure of TCP: a token must not wait 40 ms.
        sock = socket.socket(family, kind, protocol)
    except OSError as bad:
        raise ConfigError(
            f"{host} is no address of this machine: {bad}", where="--host", fix="give a name or an IP address"
        ) from bad
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as bad:
        sock.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {bad.strerror}",
            where="--host, --port",
            fix="give another --port (0 takes a free one) or an address of this machine",
        ) from bad
    return sock


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it. A name other than localhost may mean any address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str) -> frozenset[str]:
    """What a request from this machine may call a server that listens on a loopback address."""
    return frozenset({"localhost", "127.0.0.1", "[::1]", host.lower()})


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
