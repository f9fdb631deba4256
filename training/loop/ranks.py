"""The processes of one training run, as torchrun or accelerate launch starts them; by itself a run is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def world() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the one that writes and talks."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """What the first does here is done before the others come to it."""
    if world() == 1:
        yield
    else:
        with _state().main_process_first():
            yield


def meet() -> None:
    """Go on when all have come here."""
    if world() > 1:
        _state().wait_for_everyone()


def _state() -> Any:
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
