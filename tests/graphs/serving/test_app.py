"""The door itself, on a real port: who gets in, what is refused, what is counted, and how runs end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from graphs.run import Context
from graphs.serving.app import create_app
from graphs.serving.events import Happened
from graphs.serving.metrics import Metrics
from steper_agent.errors import ConfigError, DependencyError
from steper_agent.journal import Journal, trajectories
from steper_agent.models.slot import ModelSlot
from steper_agent.web.bodies import MOST_BYTES
from tests.fakes import Script, Shelf
from tests.graphs.serving.served import (
    LINES,
    SHELF,
    Teller,
    Waiting,
    app_of,
    body,
    metric,
    running,
    served,
)
from tests.waiting import eventually

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def door() -> Iterator[httpx.Client]:
    with served(app_of(Teller(), max_k=6, hosts=("127.0.0.1",))) as door:
        yield door


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    with served(app_of(Teller(), token="s3cret")) as door:
        yield door


@pytest.mark.parametrize("given", [None, "", "s3cret", "Bearer", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "Bearer é"])
def test_a_stranger_gets_nothing(guarded: httpx.Client, given: str | None) -> None:
    headers = {} if given is None else {b"Authorization": given.encode()}
    for path in (CHAT, "/v1/models", "/metrics", "/healthz/", "/nowhere", "//healthz"):
        told = guarded.get(str(guarded.base_url) + path, headers=headers)
        assert (told.status_code, told.headers["WWW-Authenticate"]) == (401, "Bearer"), path
        assert told.json()["error"]["code"] == "invalid_api_key"


def test_a_stranger_cannot_tell_by_any_method_which_routes_there_are() -> None:
    app = app_of(Teller(), token="s3cret")
    routes = {re.sub(r"{.+?}", "steper", route.path) for route in app.routes} | app.openapi()["paths"].keys()
    assert {CHAT, "/v1/models", "/v1/models/steper", "/metrics", "/healthz"} <= routes
    # Paths that a careless comparison would take for /healthz, and what FastAPI adds where nobody stops it.
    beside = {"/", "/v1", "/docs", "/redoc", "/openapi.json", "/HEALTHZ", "/healthz/", "/healthz%2f..%2fmetrics", "/metrics;/healthz", "/metrics?/healthz"}
    with served(app) as door:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            told = {
                (answer.status_code, answer.headers.get("WWW-Authenticate"), answer.content)
                for path in (routes | beside) - {"/healthz"}
                for headers in ({}, {"Authorization": "Bearer guess"})
                for answer in [door.request(method, path, headers=headers)]
            }
            assert [code for code, *_ in told] == [401], method
            health = door.request(method, "/healthz").status_code
            assert health == (200 if method in ("GET", "HEAD") else 405)
        for path in routes:
            assert door.get(path, headers={"Authorization": "Bearer s3cret"}).status_code == (405 if path == CHAT else 200), path


def test_whoever_has_the_token_comes_in_and_health_asks_for_none(guarded: httpx.Client) -> None:
    headers = {"authorization": "bearer  s3cret"}
    assert guarded.get("/metrics", headers=headers).status_code == 200
    assert guarded.post(CHAT, json=body(), headers=headers).json()["choices"][0]["message"]["content"] == "1775"
    assert guarded.get("/healthz").json() == {"status": "ready", "inflight": 0, "model": "teller"}


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "gpt-4o"}, 404, "model_not_found", "model"),
        ({"n": 2}, 400, "invalid_value", "n"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400, "unsupported_content", "messages.0.content"),
        ({"steper": {"k": 7}}, 400, "invalid_value", "steper.k"),
        ({"steper": {"steps": 6}}, 400, "invalid_value", "steper.steps"),
        ({"steper": {"strategy": "guess"}}, 400, "invalid_value", "steper.strategy"),
        ({"steper": {"temperature": 1}}, 400, "invalid_value", "steper.temperature"),
    ],
)
def test_a_bad_request_gets_an_error_object(door: httpx.Client, change: dict[str, Any], status: int, code: str, param: str) -> None:
    told = door.post(CHAT, json=body(**change))
    error = told.json()["error"]
    assert (told.status_code, error["code"], error["param"], error["type"]) == (status, code, param, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"),
    [
        ("POST", CHAT, {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ("POST", CHAT, {"content": b"{}"}, 415, "unsupported_media_type"),
        ("POST", CHAT, {"content": b"{", "headers": {"content-type": "application/json; charset=utf-8"}}, 400, "invalid_value"),
        ("POST", CHAT, {"json": body(user="x" * MOST_BYTES)}, 413, "too_large"),
        ("GET", CHAT, {}, 405, "method_not_allowed"),
        ("GET", "/v1/nowhere", {}, 404, "not_found"),
        ("GET", "/openapi.json", {}, 404, "not_found"),
        ("GET", "/healthz", {"headers": {"host": "rebound.example:8321"}}, 421, "unknown_host"),
    ],
)
def test_what_is_no_request_gets_an_error_object_too(
    door: httpx.Client, method: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    told = door.request(method, path, **more)
    assert (told.status_code, told.json()["error"]["code"]) == (status, code)


def test_a_body_in_pieces_is_limited_as_well(door: httpx.Client) -> None:
    pieces = (b" " * 65536 for _ in range(17))
    assert door.post(CHAT, content=pieces, headers={"content-type": "application/json"}).status_code == 413


def test_no_other_origin_is_invited(door: httpx.Client) -> None:
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    told = door.options(CHAT, headers=asking)
    assert told.status_code == 405
    assert not [name for name in told.headers if name.startswith("access-control")]


def test_a_request_may_ask_for_less(tmp_path: Path) -> None:
    shelf = Shelf(texts={f"Emma {number}": "A novel." for number in range(9)})
    with Journal(tmp_path / "journal.jsonl") as journal:
        context = Context(Script(lines=("Hm.", " 1775.")), shelf, journal=journal, recipe="the server's")
        with served(create_app(context, name="steper")) as door:
            told = door.post(CHAT, json=body(stream=True, steper={"k": 2, "steps": 1, "strategy": "ircot"})).text
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
    assert [len(one["steper"]["hits"]) for one in events if one.get("steper", {}).get("event") == "hits"] == [2]
    assert events[-1]["steper"]["stop"] == "budget"
    (kept,) = trajectories(tmp_path / "journal.jsonl")
    assert (kept.recipe, kept.question.id) == ("", events[-1]["id"].removeprefix("chatcmpl-"))


def test_a_follow_up_is_answered_as_the_question_it_stands_for() -> None:
    asked = [{"role": "user", "content": "Who wrote Emma?"}, {"role": "assistant", "content": "Jane Austen."},
             {"role": "user", "content": "When was she born?"}]  # fmt: skip
    model = Script(lines=("When was Jane Austen born?", LINES[1]) * 2)
    with served(app_of(model)) as door:
        made = door.post(CHAT, json=body(messages=asked)).json()
        streamed = door.post(CHAT, json=body(messages=asked, stream=True)).text
    assert made["steper"]["question"] == "When was Jane Austen born?"
    assert made["choices"][0]["message"]["reasoning_content"] == LINES[1]
    assert '"steper":{"event":"question","question":"When was Jane Austen born?"}' in streamed


def test_retrieved_text_arrives_unharmed_whatever_it_holds() -> None:
    nasty = 'Emma \x1b[31m\x00 data: [DONE]\r\n\r\ndata: {"error"}\u2028 <script>alert(1)</script> \u202e \U0001f600 "quoted" \\'
    with served(create_app(Context(Script(lines=LINES[1:]), Shelf(texts={"Emma": nasty})), name="steper")) as door:
        told = door.post(CHAT, json=body(stream=True))
    assert told.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in told.text.split("\n") if line]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert lines[-1] == "data: [DONE]"
    (hits,) = [one["steper"]["hits"] for one in chunks if one.get("steper", {}).get("event") == "hits"]
    assert [hit["text"] for hit in hits] == [nasty]


def test_one_more_than_can_be_answered_is_told_when_to_come_back() -> None:
    model = Waiting()
    with served(app_of(model, max_inflight=2)) as door, ThreadPoolExecutor(2) as others:
        waiting = [others.submit(door.post, CHAT, json=body(stream=stream)) for stream in (False, True)]
        for _ in waiting:
            model.wait_started()
        assert door.get("/healthz").json()["inflight"] == metric(door, "steper_inflight") == 2
        refused = door.post(CHAT, json=body())
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert refused.json()["error"]["code"] == "too_many_requests"
        model.go()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert door.post(CHAT, json=body()).status_code == 200
        assert metric(door, "steper_inflight") == 0
        assert metric(door, 'steper_requests_total{code="429",route="/v1/chat/completions"}') == 1


def test_a_client_that_waits_for_its_answer_always_finds_its_place_free_again() -> None:
    with served(app_of(Teller(lines=LINES[1:]), max_inflight=1)) as door:
        codes = {door.post(CHAT, json=body(stream=bool(n % 2))).status_code for n in range(12)}
    assert codes == {200}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_run_and_gives_the_model_back(stream: bool) -> None:
    model = Waiting(version="old")
    slot = ModelSlot(model)
    with served(app_of(slot)) as door:
        with pytest.raises(httpx.ReadTimeout):
            door.post(CHAT, json=body(stream=stream), timeout=httpx.Timeout(5, read=0.3))
        model.wait_cancelled()
        assert eventually(lambda: door.get("/healthz").json()["inflight"] == 0)
        assert metric(door, 'steper_runs_total{stop="cancelled"}') == 1
        code = 200 if stream else 499
        assert eventually(lambda: metric(door, f'steper_requests_total{{code="{code}",route="{CHAT}"}}') == 1)
        slot.swap(lambda: Teller(version="new"))
        assert slot.drain(1)


def test_a_failure_is_a_status_or_where_the_stream_has_begun_an_error_in_it() -> None:
    with served(app_of(Script(lines=LINES[:1]))) as door:
        streamed = door.post(CHAT, json=body(stream=True))
        whole = door.post(CHAT, json=body())
        assert metric(door, 'steper_runs_total{stop="error"}') == 2
    assert (whole.status_code, whole.json()["error"]["code"]) == (502, "run_failed")
    last = json.loads(streamed.text.strip().rpartition("data: ")[2])
    assert last["error"]["message"] == "the run failed: LookupError"


def test_runs_are_counted_by_their_end_with_steps_and_seconds() -> None:
    with served(app_of(Script(lines=(*LINES, *["Hm."] * 5, " 1775.")))) as door:
        for _ in range(2):
            door.post(CHAT, json=body())
        for path in ("/nowhere", "/elsewhere"):
            door.get(path)
        assert [metric(door, f'steper_runs_total{{stop="{stop}"}}') for stop in ("answered", "budget", "error")] == [1, 1, 0]
        assert (metric(door, "steper_run_steps_sum"), metric(door, "steper_run_seconds_count")) == (7, 2)
        assert metric(door, 'steper_requests_total{code="404",route="other"}') == 2


def test_turns_that_could_not_be_read_are_counted() -> None:
    metrics = Metrics(lambda: 0)
    for outcome in ("ok", "parse_error", "parse_error"):
        metrics.saw(Happened({"event": "rationale", "step": 1, "rationale": "", "outcome": outcome}))
    assert b"steper_parse_errors_total 2.0" in metrics.text()


def test_two_applications_count_apart_and_one_can_be_mounted() -> None:
    outer = FastAPI(openapi_url=None)
    inner = app_of(Teller(), token="s3cret")
    app_of(Teller())
    outer.mount("/steper", inner)
    outer.state.gate = inner.state.gate
    with served(outer) as door:
        assert door.get("/steper/healthz").status_code == 200
        assert door.get("/steper/v1/models").status_code == 401
        headers = {"authorization": "Bearer s3cret"}
        assert door.post(f"/steper{CHAT}", json=body(), headers=headers).status_code == 200
        told = door.get("/steper/metrics", headers=headers).text
    assert f'steper_requests_total{{code="200",route="{CHAT}"}} 1.0' in told


def test_closing_lets_runs_finish_and_nobody_in() -> None:
    model = Waiting()
    with running(app_of(model)) as (door, stop), ThreadPoolExecutor(1) as other:
        waiting = other.submit(door.post, CHAT, json=body())
        model.wait_started()
        stop()
        health = door.get("/healthz")
        assert (health.status_code, health.json()["status"], health.json()["inflight"]) == (503, "closing", 1)
        assert door.post(CHAT, json=body()).json()["error"]["code"] == "closing"
        model.go()
        assert waiting.result().status_code == 200
        assert eventually(lambda: not accepts(door))


def accepts(door: httpx.Client) -> bool:
    try:
        door.get("/healthz")
    except httpx.TransportError:
        return False
    return True


def test_what_takes_longer_than_the_grace_is_cut_and_told() -> None:
    model = Waiting()
    with running(app_of(model), grace=0.2) as (door, stop), ThreadPoolExecutor(2) as others:
        waiting = [others.submit(door.post, CHAT, json=body(stream=stream)) for stream in (False, True)]
        for _ in waiting:
            model.wait_started()
        stop()
        whole, streamed = (one.result() for one in waiting)
        model.wait_cancelled()
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "closing")
    assert json.loads(streamed.text.strip().rpartition("data: ")[2])["error"]["code"] == "closing"


@pytest.mark.parametrize(
    ("context", "settings", "told"),
    [
        ({}, {"token": " "}, "blank"),
        ({"strategy": "guess"}, {}, "unknown strategy"),
        ({"approve": True}, {}, "approve"),
    ],
)
def test_an_application_that_could_not_answer_is_not_made(context: dict[str, Any], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        create_app(Context(Teller(), SHELF, **context), name="steper", **settings)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(DependencyError, match=re.escape("pip install 'steper-agent[serve]'")):
        app_of(Teller())


def test_the_extra_is_loaded_only_to_make_an_application() -> None:
    code = "import tui.cli, graphs.serving.app, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "starlette", "uvicorn", "prometheus_client", "langgraph"} & set(out.stdout.split())
