"""The search service on a real port: what it answers, who gets in, what it refuses, and that it follows its index."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from steper_agent.errors import ConfigError, DependencyError, IndexFault
from steper_agent.records import Hit
from steper_agent.retrieval import build_index, open_index
from steper_agent.retrieval.batching import Batcher
from steper_agent.retrieval.cache import SearchCache
from steper_agent.retrieval.following import Following, Opened, opened
from steper_agent.retrieval.service import create_search_app
from steper_agent.retrieval.wire import Limits
from steper_agent.web.bodies import MOST_BYTES
from tests.steper_agent.retrieval.shelves import PASSAGES, write_lines
from tests.steper_agent.retrieval.stacks import Stack, hits_of, serving
from tests.waiting import eventually

JSON = {"content-type": "application/json"}


def client_of(url: str, **more: Any) -> httpx.Client:
    return httpx.Client(base_url=url, verify=False, **more)


@pytest.fixture(scope="module")
def door() -> Iterator[httpx.Client]:
    seat = opened(Stack())
    app = create_search_app(lambda: seat, limits=Limits(k=9, queries=8), hosts=("127.0.0.1",))
    with serving(app) as (url, _), client_of(url) as client:
        yield client


def read_hits(values: list[Any]) -> tuple[Hit, ...]:
    return tuple(map(Hit.model_validate, values))


def metric(door: httpx.Client, line: str) -> float:
    """One sample of /metrics; 0 where it was never counted."""
    text = door.get("/metrics").text
    return next((float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(f"{line} ")), 0.0)


def test_a_query_gets_its_hits_and_several_get_theirs_in_their_order(door: httpx.Client) -> None:
    one = door.post("/search", json={"query": "Málaga", "k": 2}).json()
    assert (one["digest"], read_hits(one["hits"])) == ("one", hits_of("one", "Málaga", 2))
    many = door.post("/search", json={"queries": ["b", "a", "b"], "k": 3}).json()
    assert [read_hits(hits) for hits in many["results"]] == [hits_of("one", query, 3) for query in "bab"]
    assert door.post("/search", json={"queries": []}).json()["results"] == []
    assert len(door.post("/search", json={"query": "a"}).json()["hits"]) == 4


def test_a_passage_is_found_by_any_id_and_the_manifest_says_what_is_searched(door: httpx.Client) -> None:
    for name in ("a/b", "ü ß", "a?b#c", "%2F", "x" * 500):
        found = door.get(f"/passages/{httpx.URL('', params={'': name}).query.decode()[1:].replace('+', '%20')}")
        assert found.json() == {"id": name, "title": "T", "text": "found in one"}
    assert door.get("/passages/nobody").status_code == 404
    assert door.get("/manifest").json() == {"digest": "one", "mode": "hybrid", "passages": 5}
    assert door.get("/healthz").json() == {"status": "ready", "inflight": 0}


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "where"),
    [
        ("POST", "/search", {"json": {"query": "a", "k": 10}}, 400, "k"),
        ("POST", "/search", {"json": {"query": "a", "k": 0}}, 400, "k"),
        ("POST", "/search", {"json": {"query": "a", "k": "2"}}, 400, "k"),
        ("POST", "/search", {"json": {"queries": ["a"] * 9}}, 400, "queries"),
        ("POST", "/search", {"json": {"queries": ["a", 7]}}, 400, "queries.1"),
        ("POST", "/search", {"json": {"query": "a", "queries": ["b"]}}, 400, "query"),
        ("POST", "/search", {"json": {"query": "a", "rerank": True}}, 400, "rerank"),
        ("POST", "/search", {"json": {}}, 400, "query"),
        ("POST", "/search", {"json": "query"}, 400, "request"),
        ("POST", "/search", {"content": b'{"query": "\\ud800"}', "headers": JSON}, 400, "request"),
        ("POST", "/search", {"content": b"{", "headers": JSON}, 400, "request"),
        (
            "POST",
            "/search",
            {"content": b"[" * 99_999, "headers": JSON},
            400,
            "request",
        ),
        ("POST", "/search", {"content": b'{"query": "a"}'}, 415, "request"),
        ("POST", "/search", {"json": {"query": "x" * MOST_BYTES}}, 413, "request"),
        ("GET", "/search", {}, 405, "path"),
        ("GET", "/nowhere", {}, 404, "path"),
        ("GET", "/docs", {}, 404, "path"),
        ("GET", "/manifest", {"headers": {"host": "rebound.example:8322"}}, 421, "request"),
    ],
)
def test_what_is_refused_is_told_with_what_where_and_fix(
    door: httpx.Client, method: str, path: str, more: dict[str, Any], status: int, where: str
) -> None:
    told = door.request(method, path, **more)
    assert (told.status_code, told.json()["where"]) == (status, where)
    assert told.json().keys() == {"what", "where", "fix"}
    assert all(told.json().values())


@pytest.mark.parametrize("given", [None, "s3cret", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "Bearer é"])
def test_a_stranger_gets_nothing_but_the_health(given: str | None) -> None:
    seat = opened(Stack())
    headers = {} if given is None else {b"Authorization": given.encode()}
    with serving(create_search_app(lambda: seat, token="s3cret")) as (url, _), client_of(url) as door:
        for method, path in (
            ("POST", "/search"),
            ("GET", "/manifest"),
            ("GET", "/metrics"),
            ("GET", "/passages/a"),
            ("GET", "/no"),
        ):
            told = door.request(method, path, headers=headers)
            assert (told.status_code, told.headers["WWW-Authenticate"]) == (401, "Bearer"), path
        assert door.get("/healthz").status_code == 200
        assert door.get("/manifest", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_what_fails_inside_is_told_without_its_insides_and_fails_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    seat = opened(Stack())
    with serving(create_search_app(lambda: seat)) as (url, _), client_of(url) as door, ThreadPoolExecutor(8) as threads:
        asked = [
            threads.submit(door.post, "/search", json={"query": query}) for query in ("a", "bad", "b", "bad one") * 4
        ]
        codes = [one.result().status_code for one in asked]
        assert codes == [200, 500, 200, 500] * 4
        told = asked[1].result()
    assert "LookupError" not in told.text
    assert told.json()["fix"] == "the server's log says what to mend"
    assert "LookupError" in caplog.text


def test_a_search_that_takes_too_long_is_given_up() -> None:
    stack = Stack()
    stack.may_go.clear()
    seat = opened(stack, timeout=0.05)
    with serving(create_search_app(lambda: seat)) as (url, _), client_of(url) as door:
        told = door.post("/search", json={"query": "a"})
        stack.may_go.set()
    assert (told.status_code, told.json()["what"]) == (504, "the search took too long")


def test_simultaneous_requests_are_searched_together_and_what_was_found_is_not_searched_again() -> None:
    stack = Stack()
    stack.may_go.clear()
    seat = Opened(stack, Batcher(stack.search_many, workers=1), stack.digest)
    with (
        serving(create_search_app(lambda: seat)) as (url, _),
        client_of(url) as door,
        ThreadPoolExecutor(12) as threads,
    ):
        asked = [threads.submit(door.post, "/search", json={"query": f"q{n}", "k": 2}) for n in range(12)]
        assert eventually(lambda: metric(door, "steper_search_inflight") == 12)
        stack.may_go.set()
        assert [read_hits(one.result().json()["hits"]) for one in asked] == [
            hits_of("one", f"q{n}", 2) for n in range(12)
        ]
        assert len(stack.calls) <= 3
        calls = len(stack.calls)
        assert door.post("/search", json={"query": "q3", "k": 2}).json() == asked[3].result().json()
        assert len(stack.calls) == calls
        door.post("/search", json={"query": "q3", "k": 3})
        assert stack.calls[-1] == (("q3",), 3)
        assert [metric(door, f"steper_search_cache_{name}_total") for name in ("hits", "misses")] == [1, 13]


def test_one_request_more_than_can_be_answered_is_told_when_to_come_back() -> None:
    stack = Stack()
    stack.may_go.clear()
    seat = opened(stack)
    with (
        serving(create_search_app(lambda: seat, limits=Limits(inflight=1))) as (url, _),
        client_of(url) as door,
        ThreadPoolExecutor(1) as other,
    ):
        waiting = other.submit(door.post, "/search", json={"query": "a"})
        assert eventually(lambda: len(stack.calls) == 1)
        told = door.post("/search", json={"query": "b"})
        assert (told.status_code, told.headers["Retry-After"]) == (429, "1")
        stack.may_go.set()
        assert waiting.result().status_code == 200


def test_told_to_stop_it_answers_what_was_asked_before() -> None:
    stack = Stack()
    stack.may_go.clear()
    seat = opened(stack)
    with (
        serving(create_search_app(lambda: seat)) as (url, stop),
        client_of(url) as door,
        ThreadPoolExecutor(1) as other,
    ):
        waiting = other.submit(door.post, "/search", json={"query": "a"})
        assert eventually(lambda: len(stack.calls) == 1)
        stop()
        assert door.get("/healthz").status_code == 503
        assert door.post("/search", json={"query": "b"}).status_code == 503
        stack.may_go.set()
        assert waiting.result().status_code == 200


def test_what_is_watched_is_counted(door: httpx.Client) -> None:
    door.get("/elsewhere")
    door.post("/search", json={"queries": ["counted", "counted"], "k": 1})
    assert metric(door, "steper_search_queries_total") >= 2
    assert metric(door, "steper_search_seconds_count") >= 1
    assert metric(door, 'steper_search_requests_total{code="404",route="other"}') >= 1
    assert metric(door, 'steper_search_requests_total{code="200",route="/search"}') >= 1
    assert metric(door, 'steper_index_passages{digest="one",mode="hybrid"}') == 5


def test_a_new_generation_is_served_and_no_request_fails_meanwhile(tmp_path: Path) -> None:
    manifest, generations = tmp_path / "manifest.json", iter(["one", "two", "three"])
    manifest.write_text("1")
    codes, ends = list[int](), threading.Event()
    with (
        Following(manifest, lambda: opened(Stack(next(generations), seconds=0.001)), every=0.01) as following,
        serving(create_search_app(lambda: following.current, cache=SearchCache())) as (url, _),
        client_of(url) as door,
        ThreadPoolExecutor(2) as others,
    ):

        def ask() -> None:
            with client_of(url) as own:
                while not ends.is_set():
                    told = own.post("/search", json={"query": "same", "k": 1})
                    codes.append(told.status_code)
                    value = told.json()
                    assert value["hits"][0]["passage"]["text"] == f"{value['digest']} 1"

        asking = [others.submit(ask) for _ in range(2)]
        for number, digest in enumerate(("one", "two", "three"), start=1):
            beside = tmp_path / "beside"
            beside.write_text("x" * number)
            if number > 1:
                os.replace(beside, manifest)
            assert eventually(lambda digest=digest: door.get("/manifest").json()["digest"] == digest)  # type: ignore[misc]
        ends.set()
        for one in asking:
            one.result(10)
    assert set(codes) == {200}
    assert following.switches == 2


@pytest.mark.parametrize(
    "fault",
    [IndexFault("half of it is missing", where="here", fix="wait"), LookupError("half of it is missing")],
    ids=["ours", "a provider's"],
)
def test_a_generation_that_cannot_be_opened_is_told_once_and_the_one_before_goes_on(
    fault: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, answers = tmp_path / "manifest.json", ["one", "", "", "two"]

    def open_next() -> Opened:
        if not (digest := answers.pop(0)):
            raise fault
        return opened(Stack(digest))

    manifest.write_text("1")
    following = Following(manifest, open_next)
    assert not following.look()
    manifest.unlink()
    assert not following.look()
    manifest.write_text("22")
    with caplog.at_level(logging.WARNING):
        assert [following.look() for _ in range(4)] == [False, False, True, False]
    assert following.current.digest == "two"
    assert caplog.text.count("half of it is missing") == 1


def test_an_application_that_could_not_answer_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    seat = opened(Stack())
    with pytest.raises(ConfigError, match="blank"):
        create_search_app(lambda: seat, token=" ")
    with pytest.raises(ConfigError, match="nothing can be asked"):
        create_search_app(lambda: seat, limits=Limits(k=0))
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(DependencyError, match=re.escape("pip install 'steper-agent[serve]'")):
        create_search_app(lambda: seat)


def test_making_nothing_loads_nothing() -> None:
    code = "import steper_agent.retrieval.service, tui.index_serve, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "starlette", "uvicorn", "prometheus_client", "numpy", "langchain_core"} & set(
        out.stdout.split()
    )


def test_the_command_serves_an_index_follows_its_next_generation_and_ends_as_it_is_told(tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index([write_lines(tmp_path / "corpus.jsonl", PASSAGES)], index)
    expected = open_index(index).search("engine of London", 2)
    command = [sys.executable, "-m", "tui", "index", "serve", str(index), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"serving 4 passages \(bm25\) at (http://127\.0\.0\.1:\d+)\n", said)
        assert found, said + (process.stderr.read() if process.stderr else "")
        with client_of(found[1]) as door:
            told = door.post("/search", json={"query": "engine of London", "k": 2}).json()
            assert read_hits(told["hits"]) == expected
            build_index([write_lines(tmp_path / "more.jsonl", [*PASSAGES, {"id": "e", "text": "Emma"}])], index)
            assert eventually(lambda: door.get("/manifest").json()["passages"] == 5)
            assert door.post("/search", json={"query": "Emma"}).json()["hits"][0]["passage"]["id"] == "e"
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert process.communicate() == ("", "")


def test_others_are_not_let_in_without_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tui.cli import main

    monkeypatch.delenv("STEPER_TOKEN", raising=False)
    assert main(["index", "serve", "nowhere", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "--token-file" in capsys.readouterr().err


def test_json_of_the_service_is_what_its_records_say(door: httpx.Client) -> None:
    text = door.post("/search", json={"query": "a", "k": 1}).text
    assert json.loads(text) == {"digest": "one", "hits": [hits_of("one", "a", 1)[0].model_dump()]}
