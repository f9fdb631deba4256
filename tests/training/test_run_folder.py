"""A run folder: opened once, resumed by the same settings, refused by name to any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from steper_agent.errors import ConfigError
from training.run_folder import SETTINGS, claim


class Settings(BaseModel):
    rate: float = 0.1
    base: Path = Path("base")
    names: tuple[str, ...] = ("a",)
    speed: int = 1


def test_the_same_settings_resume_and_change_nothing(tmp_path: Path) -> None:
    claim(tmp_path / "run", Settings())
    before = (tmp_path / "run" / SETTINGS).read_bytes()
    claim(tmp_path / "run", Settings())
    assert (tmp_path / "run" / SETTINGS).read_bytes() == before
    assert json.loads(before) == {"rate": 0.1, "base": "base", "names": ["a"], "speed": 1}


@pytest.mark.parametrize(("key", "value"), [("rate", 0.2), ("base", "other"), ("names", ("a", "b"))])
def test_another_setting_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    claim(tmp_path, Settings())
    before = (tmp_path / SETTINGS).read_bytes()
    with pytest.raises(ConfigError, match=f"has {key} = ") as caught:
        claim(tmp_path, Settings.model_validate({key: value}))
    assert caught.value.where == tmp_path / SETTINGS
    assert (tmp_path / SETTINGS).read_bytes() == before


def test_free_settings_may_differ(tmp_path: Path) -> None:
    claim(tmp_path, Settings(), free=("speed",))
    claim(tmp_path, Settings(speed=9), free=("speed",))
    with pytest.raises(ConfigError, match="speed"):
        claim(tmp_path, Settings(speed=9))


def test_settings_of_another_verb_are_refused(tmp_path: Path) -> None:
    class Other(BaseModel):
        rate: float = 0.1

    claim(tmp_path, Other())
    with pytest.raises(ConfigError, match="base"):
        claim(tmp_path, Settings())


@pytest.mark.parametrize("text", ["", "{half", "[1]", "3", "null"])
def test_settings_nobody_can_read_are_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        claim(tmp_path, Settings())
