from __future__ import annotations

import sys
from pathlib import Path

import pytest

from steper_agent.errors import DependencyError, ModelError, StepERError
from steper_agent.models.local import LocalChatModel
from steper_agent.models.spec import open_model, split_local


def test_a_local_spec_opens_the_folder_and_its_student(base: Path, students: tuple[Path, Path]) -> None:
    model = open_model(f"local:{base}", max_tokens=4, seed=5)
    assert isinstance(model, LocalChatModel)
    assert (model.max_tokens, model.seed) == (4, 5)
    student = open_model(f"local:{base}+{students[0]}")
    assert isinstance(student, LocalChatModel)
    assert student.version.startswith("student@")
    for opened in (model, student):
        opened.engine.close()


def test_a_plus_sign_in_a_folders_name_divides_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a+b"
    folder.mkdir()
    assert split_local(str(folder)) == (str(folder), None)
    assert split_local(f"{folder}+student") == (str(folder), "student")
    assert split_local("models/x") == ("models/x", None)


@pytest.mark.parametrize("spec", ["", "gpt", "local:", "nobody:x", "vllm:qwen", "openai:gpt", "local:no/such/folder"])
def test_a_spec_that_cannot_be_opened_says_what_to_write(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError) as caught:
        open_model(spec)
    assert caught.value.fix


@pytest.mark.parametrize("missing", ["langchain.chat_models", "langchain_openai"])
def test_a_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DependencyError, match=r"pip install ('steper-agent\[langchain\]'|langchain-openai)"):
        open_model("openai:gpt-4o-mini")
    assert issubclass(DependencyError, StepERError)
