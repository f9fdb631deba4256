"""A model folder served by vLLM as a LangChain chat model: the same ids in and out as in process, many questions at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from langchain_core.language_models import LanguageModelInput
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.runnables import Runnable, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, Field, PrivateAttr

from steper_agent.errors import StepERError
from steper_agent.models.tokens import TokenChatModel
from steper_agent.records import Mode, StudentCard
from steper_agent.students.merge import merged_folder
from steper_agent.vllm.replicas import Replica, too_few
from steper_agent.vllm.served_base import ServedBase, let_go, start_base
from steper_agent.vllm.source import Served

LOG = logging.getLogger(__name__)
TRIAL_PATIENCE = 10.0
"""Seconds that a trial waits for one of several servers."""


class VllmChatModel(TokenChatModel):
    """`VllmChatModel(path=FOLDER, base=start_base(FOLDER))`; a student is checked and loaded when it is made."""

    base: ServedBase = Field(exclude=True, repr=False)
    adapter: str | None = None
    """Folder of a student for this base."""
    owns_server: bool = False
    """Whether its server was started for it alone."""

    _served: Served = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._version = self.base.name
        if self.adapter:
            self._version = self.base.preflight(Path(self.adapter), "adapter").name
        holding = self.base.load(self._version, Path(self.adapter).resolve()) if self.adapter else self.base.replicas
        self._served = Served(holding, self._version, self.base.vocabulary)

    @property
    def fingerprint(self) -> str:
        """Of the base."""
        return self.base.fingerprint

    @property
    def source(self) -> Served:
        return self._served

    def preflight(self, folder: Path, mode: Mode = "auto") -> StudentCard:
        """The card of a student this model can take.

        Raises:
            AdapterError: it is altered, unsafe, made for another base, or more than the server takes.
        """
        return self.base.preflight(folder, mode)

    def with_student(self, folder: str | Path, mode: Mode = "auto") -> VllmChatModel:
        """The same settings with a student, after checking it: on the same server as an adapter; merged, or with full weights,
        on a second server, which ends when the student is unloaded. That has the first one's settings: on a GPU both must fit,
        so start the first with `extra=("--gpu-memory-utilization", "0.45")`.

        Raises:
            AdapterError: the student, or this base's server, does not take the other.
            ModelError: the second server does not start.
        """
        folder = Path(folder)
        card = self.preflight(folder, mode)
        if mode in ("auto", "adapter") and card.form == "adapter":
            return VllmChatModel(path=self.path, base=self.base, adapter=str(folder), **self.settings())
        whole = folder if card.form == "full" else merged_folder(self.path, folder)
        settings = self.base.server.launch.model_dump(include={"dtype", "kv_gib", "block", "max_logprobs", "extra"}) if self.base.server else {}
        second = start_base(whole, name=card.name, **settings)
        return VllmChatModel(path=str(whole), base=second, owns_server=True, **self.settings())

    def on_each(self, trial: Callable[[VllmChatModel], object]) -> None:
        """Put every server that has this student to a trial; one that fails it is asked no more.

        Raises:
            AdapterError, ModelError: fewer than the quorum are left.
        """
        router, refusals = self._served.router, dict[Replica, StepERError]()
        for replica in router.replicas:
            try:
                trial(self._alone(replica))
            except StepERError as refusal:
                refusals[replica] = refusal
        left = len(router.replicas) - len(refusals)
        if left < self.base.quorum:
            raise too_few(self._version, left, self.base.quorum, refusals)
        for replica, refused in refusals.items():
            LOG.warning("%s is not asked for %s: %s", replica.url, self._version, refused.what)
            router.drop(replica)
        self.base.unload(self._version, tuple(refusals))

    def _alone(self, replica: Replica) -> VllmChatModel:
        """This model on one of its servers; it is not waited for long where there are others."""
        alone = self.model_copy()
        if len(self._served.router.replicas) > 1:
            alone._served = self._served.on(replica, TRIAL_PATIENCE)
        return alone

    def unload(self) -> None:
        """Take this model's student from its server, or let go of the server that was started for it; the base stays."""
        if self.adapter:
            self.base.unload(self._version, self._served.router.replicas)
        elif self.owns_server and self.base.server:
            let_go(self.base.server)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False,
        method: Literal["json_schema", "json_mode", "function_calling"] = "json_schema", **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:  # fmt: skip
        """The reply as this schema's object. The server's grammar leaves the model no other tokens, whatever it would
        have written; only a reply cut off at `max_tokens` does not parse."""
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        is_pydantic = isinstance(schema, type) and issubclass(schema, BaseModel)
        parser: Any = PydanticOutputParser(pydantic_object=schema) if is_pydantic else JsonOutputParser()
        response_format = {"type": "json_schema", "json_schema": {"name": "reply", "schema": convert_to_json_schema(schema)}}
        model = self.bind(response_format=response_format, ls_structured_output_format={"kwargs": {"method": method}, "schema": schema})
        structured: Runnable[LanguageModelInput, dict[str, Any] | BaseModel] = model | parser
        if include_raw:
            parsed = RunnablePassthrough.assign(parsed=lambda out: parser.invoke(out["raw"]), parsing_error=lambda _: None)
            failed = RunnablePassthrough.assign(parsed=lambda _: None)
            both: Any = {"raw": model} | parsed.with_fallbacks([failed], exception_key="parsing_error")
            structured = both
        return structured

    @property
    def _llm_type(self) -> str:
        return "steper-vllm"
