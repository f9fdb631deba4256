"""A service as a retriever: it answers as its index does, survives what passes by itself, and says what does not."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import SecretStr

from steper_agent.errors import ConfigError, SearchError
from steper_agent.records import Passage
from steper_agent.retrieval import build_index, open_index, remote
from steper_agent.retrieval.following import opened
from steper_agent.retrieval.foreign import hits_from
from steper_agent.retrieval.remote import RemoteRetriever, connect, url_in
from steper_agent.retrieval.service import create_search_app
from tests.steper_agent.retrieval.shelves import PASSAGES, write_lines
from tests.steper_agent.retrieval.stacks import Stack, hits_of, serving
from tests.waiting import eventually


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    seat = opened(Stack())
    with serving(create_search_app(lambda: seat)) as (url, _):
        yield url


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv("STEPER_TOKEN", raising=False)


@contextmanager
def scripted(*answers: tuple[int, dict[str, str], Any]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers, the last one for ever, and notes what it was asked."""
    left, paths = list(answers), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", paths
        finally:
            server.shutdown()
            thread.join()


FOUND = {"digest": "one", "results": [[hit.model_dump() for hit in hits_of("one", "a", 2)]]}


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a served BM25 index."""
    folder = tmp_path_factory.mktemp("served")
    build_index([write_lines(folder / "corpus.jsonl", PASSAGES)], folder / "index")
    seat = opened(open_index(folder / "index"))
    with serving(create_search_app(lambda: seat)) as (url, _):
        yield url


class TestConformance(RetrieversIntegrationTests):
    """LangChain's own suite, against a served BM25 index."""

    url = ""

    @pytest.fixture(autouse=True)
    def _service(self, books: str) -> None:
        type(self).url = books

    @property
    def retriever_constructor(self) -> Any:
        return partial(RemoteRetriever, url=self.url)

    @property
    def retriever_query_example(self) -> str:
        return "engine of London"


def test_a_served_index_answers_as_it_does_itself(tmp_path: Path) -> None:
    build_index([write_lines(tmp_path / "corpus.jsonl", PASSAGES)], tmp_path / "index")
    index = open_index(tmp_path / "index")
    seat = opened(index)
    with serving(create_search_app(lambda: seat)) as (url, _):
        far = connect(url)
        queries = ["engine of London", "", "Málaga", "nothing of this", "bad \ud800 half"]
        assert far.search_many(queries, 3) == [index.search(query, 3) for query in queries]
        assert far.digest == index.digest
        assert (far.served().passages, far.served().mode) == (4, "bm25")
        assert [far.find(name) for name in ("d", "nobody")] == [index.find("d"), None]
        assert hits_from(far.invoke("engine", k=2), 2) == index.search("engine", 2)
        assert far.invoke("engine") == index.invoke("engine")


def test_more_queries_than_one_request_takes_come_back_in_their_order(url: str) -> None:
    queries = [f"q{n}" for n in range(150)]
    assert RemoteRetriever(url=url).search_many(queries, 2) == [hits_of("one", query, 2) for query in queries]


@pytest.mark.parametrize("name", ["a/b", "ü ß", "a?b#c", "%2F", ".", "..", "../x", "a;b", " "])
def test_a_passage_is_found_by_any_id(url: str, name: str) -> None:
    assert RemoteRetriever(url=url).find(name) == Passage(id=name, title="T", text="found in one")


def test_one_retriever_serves_many_loops_and_threads_and_keeps_its_connections(url: str) -> None:
    retriever = RemoteRetriever(url=url)

    async def ask(name: str) -> None:
        found = await asyncio.gather(*(retriever.asearch(f"{name}{n}", 1) for n in range(20)))
        assert found == [hits_of("one", f"{name}{n}", 1) for n in range(20)]
        assert hits_from(await retriever.ainvoke(name), 4) == hits_of("one", name, 4)

    for name in "ab":
        asyncio.run(ask(name))
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(asyncio.run, ask(name)) for name in "cdef"]
        assert retriever.search("g", 2) == hits_of("one", "g", 2)
        for one in done:
            one.result(10)


def test_a_retriever_that_nobody_holds_leaves_no_thread(url: str) -> None:
    before = threading.active_count()
    assert RemoteRetriever(url=url).search("a", 1)
    gc.collect()
    assert eventually(lambda: threading.active_count() <= before)


async def test_who_leaves_ends_the_request() -> None:
    stack = Stack()
    stack.may_go.clear()
    seat = opened(stack)
    with serving(create_search_app(lambda: seat)) as (url, _):
        retriever = RemoteRetriever(url=url)
        asking = asyncio.create_task(retriever.asearch("a", 1))
        assert await asyncio.to_thread(eventually, lambda: len(stack.calls) == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        stack.may_go.set()
        assert await retriever.asearch("b", 1) == hits_of("one", "b", 1)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_service_that_is_busy_is_asked_again(status: int) -> None:
    with scripted((status, {}, {}), (status, {}, b"no json"), (200, {}, FOUND)) as (url, paths):
        assert RemoteRetriever(url=url).search("a", 2) == hits_of("one", "a", 2)
    assert paths == ["/search"] * 3


def test_it_waits_as_long_as_it_is_asked_to() -> None:
    with scripted((429, {"Retry-After": "0.2"}, {}), (200, {}, FOUND)) as (url, _):
        start = time.perf_counter()
        RemoteRetriever(url=url).search("a", 2)
        assert time.perf_counter() - start >= 0.2


def test_it_does_not_wait_for_an_hour() -> None:
    with (
        scripted((503, {"Retry-After": "3600"}, {}), (200, {}, FOUND)) as (url, paths),
        pytest.raises(SearchError, match="503"),
    ):
        RemoteRetriever(url=url).search("a", 2)
    assert len(paths) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 504])
def test_what_does_not_pass_by_itself_is_told_at_once(status: int) -> None:
    told = {"what": "the field is wrong", "where": "k", "fix": "mend it"}
    with scripted((status, {}, told)) as (url, paths), pytest.raises(SearchError) as refused:
        RemoteRetriever(url=url).search("a", 2)
    assert (refused.value.where, refused.value.fix) == (f"{url}: k", "mend it")
    assert "the field is wrong" in refused.value.what
    assert len(paths) == 1


def test_it_gives_up_after_as_many_tries_as_it_may_make() -> None:
    with scripted((503, {}, {})) as (url, paths), pytest.raises(SearchError, match="503"):
        RemoteRetriever(url=url, retries=2).search("a", 2)
    assert len(paths) == 3


def test_a_service_that_starts_late_is_found() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    retriever = RemoteRetriever(url=f"http://127.0.0.1:{port}", retries=12)
    seat = opened(Stack())
    with ThreadPoolExecutor(1) as other:
        found = other.submit(retriever.search, "a", 1)
        time.sleep(0.05)
        with serving(create_search_app(lambda: seat), port=port):
            assert found.result(20) == hits_of("one", "a", 1)


def test_a_service_that_was_started_anew_is_found_again() -> None:
    seat = opened(Stack())
    with serving(create_search_app(lambda: seat)) as (url, _):
        retriever = RemoteRetriever(url=url)
        assert retriever.search("a", 1)
    with serving(create_search_app(lambda: seat), port=int(url.rpartition(":")[2])):
        assert retriever.search("b", 1) == hits_of("one", "b", 1)


def test_nobody_there_is_told_with_the_cure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SearchError, match="steper index serve"):
            RemoteRetriever(url=url, retries=1).search("a", 1)


def test_a_service_that_is_too_slow_is_not_given_more_to_do() -> None:
    stack = Stack()
    stack.may_go.clear()
    seat = opened(stack)
    with serving(create_search_app(lambda: seat)) as (url, _):
        with pytest.raises(SearchError, match="no answer: ReadTimeout"):
            RemoteRetriever(url=url, timeout=1.0).search("a", 1)
        assert len(stack.calls) == 1
        stack.may_go.set()


@pytest.mark.parametrize("answer", [b"<html>hello</html>", b"[]", {"digest": "one", "results": []}, {"hits": []}])
def test_another_server_is_not_taken_for_a_service(answer: Any) -> None:
    with scripted((200, {}, answer)) as (url, _), pytest.raises(SearchError, match="no answer of a search service"):
        RemoteRetriever(url=url).search("a", 1)


def test_the_token_is_sent_and_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    seat = opened(Stack())
    with serving(create_search_app(lambda: seat, token="s3cret")) as (url, _):
        retriever = RemoteRetriever(url=url, token=SecretStr("s3cret"))
        assert retriever.search("a", 1) == hits_of("one", "a", 1)
        assert "s3cret" not in repr(retriever) + retriever.model_dump_json()
        with pytest.raises(SearchError, match="bearer token"):
            connect(url)
        monkeypatch.setenv("STEPER_TOKEN", "s3cret")
        assert connect(url, k=2).k == 2


def test_a_new_generation_is_known_by_the_answer() -> None:
    seats = [opened(Stack("old"))]
    with serving(create_search_app(lambda: seats[-1])) as (own, _):
        retriever = connect(own)
        assert retriever.digest == "old"
        seats.append(opened(Stack("new")))
        retriever.search("a", 1)
        assert retriever.digest == "new"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("http://127.0.0.1:8322", "http://127.0.0.1:8322"),
        (Path("http://127.0.0.1:8322"), "http://127.0.0.1:8322"),
        (Path("https://search.example/books"), "https://search.example/books"),
        ("runs/index", None),
        (Path("/http/x"), None),
        ("http://", None),
        ("ftp://x", None),
    ],
)
def test_a_url_is_told_from_a_folder(spec: object, found: str | None) -> None:
    assert url_in(spec) == found


@pytest.mark.parametrize("url", ["runs/index", "http://", "http://x:port", "http://:80"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no URL"):
        RemoteRetriever(url=url)


def test_what_is_closed_says_so(url: str) -> None:
    retriever = RemoteRetriever(url=url)
    retriever.search("a", 1)
    retriever.close()
    retriever.close()
    with pytest.raises(RuntimeError, match="closed"):
        retriever.search("a", 1)
    RemoteRetriever(url=url).close()
