"""The LoRA adapters inside one model: loaded beside each other, one of them (or none) at work. Not thread-safe: the
engine's thread alone touches it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steper_agent.errors import AdapterError, DependencyError, ModelError
from steper_agent.students.student import content_hash
from steper_agent.students.weights import check_adapter, weight_shapes


class Adapters:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._peft: Any = None
        self._users: Counter[str] = Counter()
        self.shapes = weight_shapes(model)
        """Shapes of the base, taken before any adapter is in it."""
        self.names: tuple[str, ...] = ()

    def load(self, folder: Path) -> str:
        """Put an adapter into the model without using it yet; its name is the hash of its content. Loading one that
        is there already only counts one more user."""
        try:
            from peft import PeftModel
        except ImportError as missing:
            raise DependencyError("a student that is an adapter needs PEFT", where="peft", fix="pip install 'steper-agent[train]'") from missing
        name = content_hash(folder)
        if name in self.names:
            self._users[name] += 1
            return name
        check_adapter(folder, self.shapes)
        device = str(self._model.device)
        try:
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(self._model, str(folder), adapter_name=name, torch_device=device)
            else:
                self._peft.load_adapter(str(folder), adapter_name=name, torch_device=device)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as broken:
            raise AdapterError(
                f"PEFT cannot load it: {broken}", where=folder, fix="train and save it again"
            ) from broken
        self.names = (*self.names, name)
        self._users[name] = 1
        return name

    def unload(self, name: str) -> None:
        """One user fewer; the last one frees it. An adapter that is not there is gone already."""
        self._users[name] -= 1
        if self._users[name] > 0 or name not in self.names:
            return
        del self._users[name]
        self.names = tuple(other for other in self.names if other != name)
        if not self.names:
            # PEFT cannot be without an active adapter, so the last one takes the wrapping with it.
            self._peft.unload()
            self._peft = None
            return
        self._peft.set_adapter(self.names[-1])
        self._peft.delete_adapter(name)

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Inside, the model is the base with this adapter; with None it is the bare base, to the bit."""
        if name is not None and name not in self.names:
            raise ModelError(
                f"adapter {name[:12]} is not loaded", where="engine", fix="load it, or keep its lease longer"
            )
        if name is not None:
            self._peft.set_adapter(name)
            yield
        elif self._peft is not None:
            with self._peft.disable_adapter():
                yield
        else:
            yield
