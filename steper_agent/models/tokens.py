"""A chat model whose tokenizer we hold: token ids in, token ids out, and a turn it can go on with."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from steper_agent.errors import ModelError
from steper_agent.models.decoding import Done, Piece, Request, TokenChance
from steper_agent.models.replies import Reply, fresh_ids
from steper_agent.prompts import render


class Source(Protocol):
    """Where the tokens come from: an engine in this process, or a server. Closing an iterator cancels its request."""

    @property
    def tokenizer(self) -> Any: ...

    def stream(self, request: Request) -> Iterator[Piece | Done]: ...

    def astream(self, request: Request) -> AsyncIterator[Piece | Done]: ...


def greedy(source: Source, prompt: Sequence[int], max_tokens: int, adapter: str | None = None) -> Done:
    """The likeliest tokens behind these ids, at most `max_tokens`, each with its chance and the next likeliest's."""
    *_, done = source.stream(Request(tuple(prompt), adapter, max_tokens, logprobs=2))
    assert isinstance(done, Done)
    return done


class TokenChatModel(BaseChatModel):
    """What every such model shares. Any field below `path` can be given per call as well:
    `model.invoke(messages, temperature=0.7, seed=3)`."""

    continues_final_message: ClassVar[bool] = True

    path: str
    """Folder of the model: safetensors, config and tokenizer."""
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    """Also bounded by what the model's window leaves beside the prompt."""
    seed: int = 0
    """Equal seeds give equal text; for several samples of one prompt give several seeds."""
    stop: list[str] | None = None
    top_logprobs: int | None = None
    """Replies tell how likely their tokens were, and so many of the likeliest in the place of each; None tells nothing."""

    _adapter_name: str | None = PrivateAttr(default=None)
    _version: str = PrivateAttr(default="")

    @property
    @abstractmethod
    def source(self) -> Source:
        """What answers this model's requests."""

    @property
    def version(self) -> str:
        """`base@` or `student@` and 12 hex digits; equal versions say the same."""
        return self._version

    @property
    def tokenizer(self) -> Any:
        return self.source.tokenizer

    def settings(self) -> dict[str, Any]:
        """How it decodes, for another model to do the same."""
        return {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens", "seed", "stop", "top_logprobs")}

    def greedy(self, prompt: Sequence[int], max_tokens: int) -> Done:
        """What the model itself, its student included, writes behind these ids, whatever its settings."""
        return greedy(self.source, prompt, max_tokens, self._adapter_name)

    async def ascore(self, prompt: Sequence[int], said: Sequence[int], top: int) -> tuple[TokenChance, ...]:
        """How likely the model, its student included, holds these tokens behind that prompt, whoever wrote them, and the `top`
        likeliest in the place of each; without the last token where both together fill the window.

        Raises:
            ModelError: both together do not fit into its window, or hold a token that it has not.
        """
        request = Request((*prompt, *said), self._adapter_name, max_tokens=1, logprobs=top, scored=len(said), whole=True)
        *_, done = [event async for event in self.source.astream(request)]
        assert isinstance(done, Done)
        return done.chances

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], *, tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:  # fmt: skip
        """The model with tools in its prompt, its calls of them read from what it writes.

        `tool_choice="none"` reads no calls. Every other choice leaves it to the model, for nothing here forces its
        tokens; so `with_structured_output` gives nothing where the model makes no call.
        """
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **choice, **kwargs)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"version": self._version, **self.settings()}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="steper", ls_model_type="chat", ls_model_name=kwargs.get("model", self._version),
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get("max_tokens", self.max_tokens),
        )  # fmt: skip
        if stop := stop or self.stop:
            params["ls_stop"] = stop
        return params

    def _request(self, messages: Sequence[BaseMessage], stop: list[str] | None, options: dict[str, Any]) -> Request:
        from jinja2 import TemplateError

        try:
            prompt = tuple(render(messages, self.tokenizer, options.get("tools") or ()))
        except (KeyError, ValueError, TypeError, TemplateError) as odd:
            raise ModelError(
                f"the messages cannot be put into this model's prompt: {odd!r}", where=self.path,
                fix="give system, human, ai and tool messages of plain text, in an order the model's chat template takes",
            ) from odd  # fmt: skip
        return Request(
            prompt=prompt,
            adapter=self._adapter_name,
            max_tokens=options.get("max_tokens", self.max_tokens),
            stop=tuple(stop if stop is not None else self.stop or ()),
            temperature=options.get("temperature", self.temperature),
            top_p=options.get("top_p", self.top_p),
            seed=options.get("seed", self.seed),
            logprobs=options.get("top_logprobs", 0) if options.get("logprobs") else self.top_logprobs,
            schema=_schema_of(options.get("response_format")),
        )

    def _reply(self, messages: Sequence[BaseMessage], request: Request, options: dict[str, Any]) -> Reply:
        tools = () if options.get("tool_choice") == "none" else options.get("tools") or ()
        return Reply(request, self._version, tools, fresh_ids(messages), self.tokenizer)

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:  # fmt: skip
        request = replace(self._request(messages, stop, kwargs), whole=True)
        reply = self._reply(messages, request, kwargs).message(list(self.source.stream(request)))
        return ChatResult(generations=[ChatGeneration(message=reply)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:  # fmt: skip
        request = replace(self._request(messages, stop, kwargs), whole=True)
        events = [event async for event in self.source.astream(request)]
        reply = self._reply(messages, request, kwargs).message(events)
        return ChatResult(generations=[ChatGeneration(message=reply)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:  # fmt: skip
        request = self._request(messages, stop, kwargs)
        reply = self._reply(messages, request, kwargs)
        for event in self.source.stream(request):
            chunk = ChatGenerationChunk(message=reply.chunk(event))
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:  # fmt: skip
        request = self._request(messages, stop, kwargs)
        reply = self._reply(messages, request, kwargs)
        async for event in self.source.astream(request):
            chunk = ChatGenerationChunk(message=reply.chunk(event))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


def _schema_of(response_format: dict[str, Any] | None) -> str:
    """The JSON schema in OpenAI's `response_format`; any JSON object where it asks for `json_object`."""
    kind = (response_format or {"type": "text"}).get("type")
    if kind == "text":
        return ""
    if response_format is None or kind not in ("json_schema", "json_object"):
        raise ModelError(f"no such response_format: {kind!r}", where="response_format",
                         fix="give a table with type json_schema, json_object or text")  # fmt: skip
    schema = response_format.get("json_schema", {}).get("schema") if kind == "json_schema" else {"type": "object"}
    if not isinstance(schema, dict):
        raise ModelError("response_format holds no schema", where="response_format.json_schema.schema",
                         fix="give a JSON schema")  # fmt: skip
    return json.dumps(schema)
