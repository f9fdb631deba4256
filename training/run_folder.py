"""A run folder belongs to one set of settings: the same command resumes it, another one is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    wanted = {key: value for key, value in json.loads(settings.model_dump_json()).items() if key not in free}
    path = folder / SETTINGS
    if not path.exists():
        write_atomic(path, json.dumps(wanted, indent=1, sort_keys=True) + "\n")
        return
    try:
        held: Mapping[str, object] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as bad:
        raise ConfigError("this run's settings cannot be read", where=path, fix="give another --out") from bad
    for key in sorted(wanted.keys() | held.keys()):
        if wanted.get(key) != held.get(key):
            raise ConfigError(f"this folder's run has {key} = {held.get(key)!r}, not {wanted.get(key)!r}", where=path,
                              fix="give the same settings to resume it, or another --out")
