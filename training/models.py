"""Models by spec, for every verb: the teachers that live here, and whatever `steper_agent.models` can open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel


def open_model(spec: str, **decoding: Any) -> BaseChatModel:
    """`symbolic` (the micro-world's teacher; `symbolic:2` gives a fact up after two searches), `replay:FILE`, or a spec of
    `steper_agent.models.spec`.

    Raises:
        ModelError: the spec or the model folder is not usable.
    """
    who, _, patience = spec.partition(":")
    if who == "symbolic" and (not patience or patience.isdecimal()):
        from training.microworld.teacher import SymbolicTeacher

        return SymbolicTeacher.patient(int(patience or 0))
    if spec.startswith("replay:"):
        from training.replay import read_chains, teacher_of

        return teacher_of(read_chains(Path(spec.removeprefix("replay:"))))
    from steper_agent.models.spec import open_model as open_spec

    return open_spec(spec, **decoding)
