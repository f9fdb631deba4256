"""Who may come in: tokens, addresses, names."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from steper_agent.errors import ConfigError
from steper_agent.web.access import bind, is_loopback, read_token, url_of
from steper_agent.web.entrance import host_in


def test_a_token_comes_from_a_file_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" s3cret\n")
    assert read_token(file, {"STEPER_TOKEN": "other"}) == "s3cret"
    assert read_token(None, {"STEPER_TOKEN": "other"}) == "other"
    assert read_token(None, {}) is None


@pytest.mark.parametrize("text", ["", " \n", "two words", "two\nlines", "geheimnißvoll", "\x07bell"])
def test_a_token_that_is_none_or_cannot_be_sent_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(ConfigError, match="token"):
        read_token(tmp_path / "token")
    with pytest.raises(ConfigError, match="token"):
        read_token(None, {"STEPER_TOKEN": text})


def test_a_token_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the token"):
        read_token(tmp_path / "none", {"STEPER_TOKEN": "not this one"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("", False), ("10.0.0.1", False), ("localhost.evil.com", False)],
)  # fmt: skip
def test_only_this_machine_reaches_a_loopback_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "example.com"])
def test_others_are_not_let_in_without_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="STEPER_TOKEN"):
        bind(host, 0, has_token=False)


def test_with_a_token_any_address_of_this_machine_will_do() -> None:
    with bind("0.0.0.0", 0, has_token=True) as sock:
        assert url_of(sock).startswith("http://0.0.0.0:")


def test_the_socket_is_known_as_tcp_so_that_small_pieces_are_sent_at_once() -> None:
    with bind("127.0.0.1", 0, has_token=False) as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_a_port_in_use_and_an_address_of_another_machine_are_told() -> None:
    with bind("127.0.0.1", 0, has_token=False) as sock:
        sock.listen()
        with pytest.raises(ConfigError, match="--port"):
            bind("127.0.0.1", sock.getsockname()[1], has_token=False)
    with pytest.raises(ConfigError, match="cannot listen"):
        bind("192.0.2.1", 0, has_token=True)
    with pytest.raises(ConfigError, match="no address"):
        bind("not a host", 0, has_token=True)


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:8321", "localhost"), ("LocalHost", "localhost"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", ""), ("a:b", "a:b")],
)
def test_a_host_header_is_read_without_its_port(header: str, name: str) -> None:
    assert host_in(header) == name
