"""The page on the HTTP door is run: its client against a real server, its mounted application as it stands."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from typing import Any

import httpx

from graphs.run import Context
from graphs.serving.app import create_app
from tests.docs.pages import DOCS, blocks_of
from tests.docs.standin import Reader
from tests.fakes import Shelf
from tests.graphs.serving.served import served

PAGE = (DOCS / "http.md").read_text(encoding="utf-8")
CLIENT, MOUNTED = blocks_of("http.md")
CONTEXT = Context(Reader(), Shelf(texts={"X": "X was directed by Y.", "Y": "Y was born in Utrecht."}))
ASKED = {"model": "steper", "messages": [{"role": "user", "content": "Where was the director of X born?"}]}


def test_the_client_gets_an_answer_with_its_account() -> None:
    shown = re.search(r'```json\n"steper": (.*?)```', PAGE, flags=re.DOTALL)
    assert shown is not None
    names: dict[str, Any] = {}
    with served(create_app(CONTEXT, name="steper")) as door:
        answer, _, steps = CLIENT.run(names, ("http://127.0.0.1:8321", str(door.base_url).rstrip("/"))).partition(" ")
        names["client"].close()
    assert answer == "Utrecht"
    assert [step["rationale"] for step in ast.literal_eval(steps)][0] == "X was directed by Y."
    account = json.loads(shown[1])
    assert account.keys() == names["reply"].steper.keys()
    assert account["steps"][0].keys() == names["reply"].steper["steps"][0].keys()


async def test_it_is_mounted_with_a_token_and_a_gate_of_its_own() -> None:
    names: dict[str, Any] = {"context": CONTEXT, "TOKEN": "s3cret"}
    assert MOUNTED.run(names) == ""
    token = {"authorization": "Bearer s3cret"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(names["app"]), base_url="http://here/steper") as door:
        assert (await door.get("/healthz")).json()["status"] == "ready"
        assert (await door.post("/v1/chat/completions", json=ASKED)).status_code == 401
        made = await door.post("/v1/chat/completions", json=ASKED, headers=token)
        assert made.json()["choices"][0]["message"]["content"] == "Utrecht"
        names["inner"].state.gate.close()
        assert (await door.post("/v1/chat/completions", json=ASKED, headers=token)).status_code == 503


def test_every_flag_of_the_page_is_known() -> None:
    shown = subprocess.run([sys.executable, "-m", "tui", "serve", "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", PAGE))
    assert flags >= {"--index", "--model", "--token-file", "-k"}
    assert flags <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown))
