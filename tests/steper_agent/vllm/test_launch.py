from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steper_agent.vllm.launch import PYTHON, RANKS, Launch, command, environment

LAUNCH = Launch(model=Path("/models/qwen"), name="base@0123456789ab", students=(Path("/registry/students"),))
SOCKET = Path("/run/steper/socket")


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_a_server_listens_on_a_private_socket_unless_it_is_given_a_port() -> None:
    words = command(LAUNCH, SOCKET)
    assert value(words, "--uds") == str(SOCKET)
    assert "--port" not in words
    words = command(LAUNCH.model_copy(update={"port": 8123}), SOCKET)
    assert (value(words, "--host"), value(words, "--port")) == ("127.0.0.1", "8123")
    assert "--uds" not in words


def test_no_token_is_on_the_command_line_and_both_are_in_the_environment() -> None:
    given_environment = environment(LAUNCH, "asking-token", "admin-token", {"PATH": "/bin", "PYTHONPATH": "/other"})
    assert "asking-token" in given_environment.values()
    assert "admin-token" in given_environment.values()
    assert not {"asking-token", "admin-token"} & set(command(LAUNCH, SOCKET))
    assert given_environment["PATH"] == "/bin"
    assert given_environment["PYTHONPATH"].endswith(":/other")


def test_a_base_served_alone_takes_no_adapters() -> None:
    alone = LAUNCH.model_copy(update={"students": ()})
    assert "--enable-lora" not in command(alone, SOCKET)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environment(alone, "a", "b", {})
    assert "--enable-lora" in command(LAUNCH, SOCKET)
    assert environment(LAUNCH, "a", "b", {})["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"


@given(st.integers(1, 512))
def test_the_rank_is_the_smallest_that_vllm_knows_and_the_student_fits_into(rank: int) -> None:
    chosen = int(value(command(LAUNCH.model_copy(update={"max_lora_rank": rank}), SOCKET), "--max-lora-rank"))
    assert chosen in RANKS
    assert chosen >= rank
    assert not any(rank <= smaller < chosen for smaller in RANKS)


def test_an_old_and_a_new_student_always_fit_side_by_side() -> None:
    with pytest.raises(ValidationError):
        Launch(model=Path("m"), name="n", max_loras=1)


@pytest.mark.parametrize("rank", [0, RANKS[-1] + 1])
def test_a_rank_that_vllm_has_no_room_for_is_refused(rank: int) -> None:
    with pytest.raises(ValidationError):
        Launch(model=Path("m"), name="n", max_lora_rank=rank)


def test_another_interpreter_may_have_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, "/venvs/vllm/bin/python")
    assert command(LAUNCH, SOCKET)[0] == "/venvs/vllm/bin/python"


def test_on_few_cores_threads_float_and_leave_a_core_to_all_else_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    ours = environment(LAUNCH, "a", "b", {})
    assert (ours["VLLM_CPU_OMP_THREADS_BIND"], ours["OMP_NUM_THREADS"]) == ("nobind", "3")
    bound = environment(LAUNCH, "a", "b", {"VLLM_CPU_OMP_THREADS_BIND": "0-1"})
    assert bound["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert "OMP_NUM_THREADS" not in bound
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert "VLLM_CPU_OMP_THREADS_BIND" not in environment(LAUNCH, "a", "b", {})
