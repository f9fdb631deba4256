"""Who is let through to vLLM, before there is a vLLM: the real server's routes are walked in test_real.py."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from steper_agent.vllm import guard
from steper_agent.vllm.guard import Guard

ASKING, ADMIN = "asking", "admin"


async def behind(scope: MutableMapping[str, Any], receive: guard.Receive, send: guard.Send) -> None:
    """The application that is guarded: says which path it was asked, and what it was sent."""
    body = (await receive()).get("body", b"")
    told = json.dumps({"path": scope["path"], "body": body.decode()}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture
def students(tmp_path: Path) -> Path:
    folder = tmp_path / "students"
    (folder / "abc").mkdir(parents=True)
    return folder


@pytest.fixture
def client(students: Path, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    for name, value in ((guard.TOKEN, ASKING), (guard.ADMIN_TOKEN, ADMIN), (guard.STUDENTS, str(students))):
        monkeypatch.setenv(name, value)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=Guard(behind)), base_url="http://vllm")


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", ["/v1/completions", "/metrics", "/invocations", "/v1/load_lora_adapter", "/docs", "/health/", "//health"])
async def test_nobody_without_a_token_is_let_in(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.post(path)).status_code == 401
    assert (await client.post(path, headers=bearing("guess"))).status_code == 401
    assert (await client.post(path, headers={"authorization": ASKING})).status_code == 401


async def test_health_is_everybodys(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200


async def test_who_asks_may_ask_and_no_more(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/completions", headers=bearing(ASKING))).status_code == 200
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/invocations", "/scale_elastic_ep", "/anything/new"):
        assert (await client.post(path, headers=bearing(ASKING))).status_code == 403, path


async def test_the_other_door_to_loading_is_shut_to_everyone(client: httpx.AsyncClient) -> None:
    for path in ("/adapters", "/adapters/abc"):
        assert (await client.post(path, headers=bearing(ADMIN), json={"name": "a", "src": "/"})).status_code == 403


async def test_a_student_is_loaded_from_its_folder_and_the_request_arrives_whole(client: httpx.AsyncClient, students: Path) -> None:
    asked = {"lora_name": "student@abc", "lora_path": str(students / "abc")}
    response = await client.post(guard.LOADING, headers=bearing(ADMIN), json=asked)
    assert response.status_code == 200
    assert json.loads(response.json()["body"]) == asked


async def test_nothing_is_loaded_from_elsewhere(client: httpx.AsyncClient, students: Path) -> None:
    elsewhere = students.parent / "elsewhere"
    elsewhere.mkdir()
    (students / "link").symlink_to(elsewhere)
    for path in (elsewhere, students / ".." / "elsewhere", students / "link", students / "missing", "abc", "someone/on-the-hub", "", None, 7):
        asked = {"lora_name": "x", "lora_path": path if path is None or isinstance(path, int) else str(path)}
        response = await client.post(guard.LOADING, headers=bearing(ADMIN), json=asked)
        assert response.status_code in (400, 403), path


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"text"', b"{}", b" " * (guard.MOST_BODY + 1)])
async def test_a_body_that_names_no_folder_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await client.post(guard.LOADING, headers=bearing(ADMIN), content=body)).status_code == 400


async def test_new_weights_never_take_an_old_name(client: httpx.AsyncClient, students: Path) -> None:
    asked = {"lora_name": "x", "lora_path": str(students / "abc"), "load_inplace": True}
    assert (await client.post(guard.LOADING, headers=bearing(ADMIN), json=asked)).status_code == 403


@pytest.mark.parametrize("missing", [guard.TOKEN, guard.ADMIN_TOKEN])
def test_without_tokens_there_is_no_server(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (guard.TOKEN, guard.ADMIN_TOKEN):
        monkeypatch.setenv(name, "s3cret")
    Guard(behind)
    monkeypatch.setenv(missing, "")
    with pytest.raises(RuntimeError, match=missing):
        Guard(behind)
    monkeypatch.delenv(missing)
    with pytest.raises(RuntimeError, match=missing):
        Guard(behind)
