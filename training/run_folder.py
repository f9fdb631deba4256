"""A run folder belongs to one set of settings: the same command resumes it, another one is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from steper_agent.durable import write_atomic
from steper_agent.errors import ConfigError

SETTINGS = "settings.json"


def claim(folder: Path, settings: BaseModel, *, free: tuple[str, ...] = ()) -> None:
    """Open `folder` for these settings, or check that it was opened for the same ones.

    `free` names settings that may differ between two starts of one run (how fast, how loud, where).

    Raises:
        ConfigError: the folder holds a run with another setting, or with settings nobody can read.
    """
    wanted = _told(settings, free)
    if not (folder / SETTINGS).exists():
        write_atomic(folder / SETTINGS, json.dumps(wanted, indent=1, sort_keys=True) + "\n")
        return
    held = _held(folder)
    _compare(folder, held, wanted, sorted(wanted.keys() | held.keys()))


def check_settings(folder: Path, settings: BaseModel, *, free: tuple[str, ...] = ()) -> None:
    """As `claim`, but nothing is written, and what else was noted when the run began (digests of what it read) is not looked at.

    Raises:
        ConfigError: the folder holds a run with another setting.
    """
    if (folder / SETTINGS).exists():
        wanted = _told(settings, free)
        _compare(folder, _held(folder), wanted, sorted(wanted))


def _told(settings: BaseModel, free: tuple[str, ...]) -> Mapping[str, object]:
    return {key: value for key, value in json.loads(settings.model_dump_json()).items() if key not in free}


def _held(folder: Path) -> Mapping[str, object]:
    path = folder / SETTINGS
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as bad:
        raise ConfigError("this run's settings cannot be read", where=path, fix="give another --out") from bad


def _compare(folder: Path, held: Mapping[str, object], wanted: Mapping[str, object], keys: Sequence[str]) -> None:
    for key in keys:
        if wanted.get(key) != held.get(key):
            raise ConfigError(f"this folder's run has {key} = {held.get(key)!r}, not {wanted.get(key)!r}", where=folder / SETTINGS,
                              fix="give the same settings to resume it, or another --out")
