"""A model folder as a LangChain chat model, in process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr

from steper_agent.errors import AdapterError
from steper_agent.models.engine import Engine
from steper_agent.models.tokens import TokenChatModel
from steper_agent.records import Mode, StudentCard
from steper_agent.students.student import CARD, read_card, verify_student


class LocalChatModel(TokenChatModel):
    """`LocalChatModel(path=FOLDER)`. Loads when it is made."""

    adapter: str | None = None
    """Folder of a student for this base."""
    engine: Engine = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """Give one to share a loaded model; left out, the folder is loaded."""
    _fingerprint: str = PrivateAttr(default="")

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        is_own = self.engine is None
        if is_own:
            self.engine = Engine(self.path)
        self._fingerprint = self.engine.fingerprint
        self._version = f"base@{self.engine.fingerprint[:12]}"
        if (Path(self.path) / CARD).is_file():
            self._version = read_card(self.path).name
        if self.adapter:
            card = self.preflight(Path(self.adapter))
            self._adapter_name = self.engine.load_adapter(self.adapter) if card.form == "adapter" else None
            if card.form == "full":
                if is_own:
                    self.engine.close()
                self.engine = Engine(self.adapter)
            self._version = card.name

    @property
    def fingerprint(self) -> str:
        """Of the base."""
        return self._fingerprint

    @property
    def source(self) -> Engine:
        return self.engine

    def preflight(self, folder: Path, mode: Mode = "auto") -> StudentCard:
        """The card of a student this model can take.

        Raises:
            AdapterError: it is altered, unsafe, or made for another base.
        """
        if mode == "merged":
            raise AdapterError("a model in this process takes adapters as they are", where=folder, fix="use mode auto")
        return verify_student(folder, self.path, fingerprint=self._fingerprint, shapes=self.engine.shapes)

    def with_student(self, folder: str | Path, mode: Mode = "auto") -> LocalChatModel:  # noqa: ARG002 - its card says
        """The same base and settings with a student, after checking it. An adapter shares the loaded base; full weights are loaded
        beside it."""
        shared = {"engine": self.engine} if self.engine.path == Path(self.path) else {}
        return LocalChatModel(path=self.path, adapter=str(folder), **shared, **self.settings())

    def unload(self) -> None:
        """Free the student of this model; the base it shares with others stays."""
        if self._adapter_name:
            self.engine.unload_adapter(self._adapter_name)
            self._adapter_name = None
        elif self.adapter:
            self.engine.close()

    @property
    def _llm_type(self) -> str:
        return "steper-local"
