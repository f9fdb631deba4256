"""`steper vllm`: what it refuses before anything is started, what it prints for others to use, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from langchain_core.messages import HumanMessage

from steper_agent.models.local import LocalChatModel
from steper_agent.models.spec import open_model
from steper_agent.vllm.guard import ADMIN_TOKEN, TOKEN
from steper_agent.vllm.launch import PYTHON
from steper_agent.web.access import bind
from tests.processes import family, has_ended, is_named
from tests.served import needs_vllm
from tests.tiny import tiny_adapter, tiny_base
from tests.waiting import eventually
from tui.cli import main

Capture = pytest.CaptureFixture[str]
ASK = [HumanMessage("Question: who wrote the book of the town?")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("vllm-base"), width=64, window=1024)


@contextmanager
def started(*words: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, without the tokens that whoever runs the tests may have."""
    command = [sys.executable, "-m", "tui", "vllm", *map(str, words)]
    # Children of a shell's background job are deaf to Ctrl-C, unless somebody in between listens.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kept = {name: value for name, value in os.environ.items() if name not in (TOKEN, ADMIN_TOKEN)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**kept, **environment}) as process:
        try:
            yield process
        finally:
            process.kill()


def written(spec: str) -> list[int]:
    """The ids of its answer."""
    model = open_model(spec, max_tokens=16)
    ids: list[int] = model.invoke(ASK).response_metadata["output_ids"]
    if isinstance(model, LocalChatModel):
        model.engine.close()
    return ids


@needs_vllm
@pytest.mark.timeout(600)
def test_what_it_prints_is_all_that_others_need_and_ctrl_c_leaves_nothing_behind(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = tiny_adapter(base, tmp_path / "students" / "one", 1)
    with started(base, "--students", student.parent, "--port", 0, "--dtype", "float32", "--vllm=--max-model-len 512") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().rstrip("\n") for _ in range(4)]
        assert lines[0].startswith("serving base@"), lines
        spec, log = lines[0].partition("--model ")[2], Path(lines[3].removeprefix("log: "))
        url = spec.partition("@")[2]
        assert spec == f"vllm:{base}@{url}"
        assert log.is_file()
        servers = family(process.pid)
        for header in ({}, {"Authorization": "Bearer guess"}):
            assert httpx.get(f"{url}/v1/models", headers=header).status_code == 401
        for name, line in zip((TOKEN, ADMIN_TOKEN), lines[1:3], strict=True):
            assert line.startswith(f"export {name}=")
            monkeypatch.setenv(name, line.partition("=")[2])
        listed = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {os.environ[TOKEN]}"}).json()["data"]
        assert [one["max_model_len"] for one in listed] == [512]
        alone, taught = written(f"local:{base}"), written(f"local:{base}+{student}")
        assert alone != taught
        assert written(spec) == alone
        assert written(f"vllm:{base}+{student}@{url}") == taught
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.communicate() == ("", "\nStopped.\n")
        assert len(servers) >= 2, "the leash, and at its end the server"
        assert eventually(lambda: all(has_ended(one.pid) for one in servers))
    assert not log.parent.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_starts_it_leaves_nothing_behind_either(base: Path, tmp_path: Path, told: signal.Signals) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    with started(base, "--port", 0, **{PYTHON: str(sleeper), "TMPDIR": str(tmp_path / "tmp")}) as process:
        assert eventually(lambda: any(is_named(one, "sleep") for one in family(process.pid)))
        servers = family(process.pid)
        process.send_signal(told)
        assert process.wait(30) == 130
        assert eventually(lambda: all(has_ended(one.pid) for one in servers))
    assert not list((tmp_path / "tmp").glob("steper-vllm-*"))


def test_a_port_in_use_is_told_and_whoever_listens_there_is_not_taken_for_ours(base: Path, capsys: Capture) -> None:
    with bind("127.0.0.1", 0, has_token=False) as sock:
        sock.listen()
        assert main(["vllm", str(base), "--port", str(sock.getsockname()[1])]) == 2
    said = capsys.readouterr()
    assert "give another --port" in said.err
    assert "export" not in said.out


def test_a_folder_that_is_no_model_is_told_before_anything_starts(tmp_path: Path, capsys: Capture) -> None:
    assert main(["vllm", str(tmp_path / "missing"), "--port", "0"]) == 2
    assert "no such model folder" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "value"), [("--max-loras", "1"), ("--max-lora-rank", "600")])
def test_what_no_server_can_be_given_is_told_before_anything_starts(base: Path, flag: str, value: str, capsys: Capture) -> None:
    assert main(["vllm", str(base), "--port", "0", "--students", str(base.parent), flag, value]) == 2
    assert f"{flag}: Input should be" in capsys.readouterr().err
