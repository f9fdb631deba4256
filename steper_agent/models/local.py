"""A model folder as a LangChain chat model, in process: token ids in, token ids out, and a turn it can go on with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

from steper_agent.errors import ModelError
from steper_agent.models.decoding import Request
from steper_agent.models.engine import Engine
from steper_agent.models.replies import Reply, fresh_ids
from steper_agent.prompts import render
from steper_agent.students.student import CARD, read_card, verify_student


class LocalChatModel(BaseChatModel):
    """`LocalChatModel(path=FOLDER)`. Loads when it is made. Any field below `seed` can be given per call as well:
    `model.invoke(messages, temperature=0.7, seed=3)`."""

    continues_final_message: ClassVar[bool] = True

    path: str
    """Folder of the model: safetensors, config and tokenizer."""
    adapter: str | None = None
    """Folder of a student for this base."""
    engine: Engine = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """Give one to share a loaded model; left out, the folder is loaded."""
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    """Also bounded by what the model's window leaves beside the prompt."""
    seed: int = 0
    """Equal seeds give equal text; for several samples of one prompt give several seeds."""
    stop: list[str] | None = None

    _adapter_name: str | None = PrivateAttr(default=None)
    _version: str = PrivateAttr(default="")

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        if self.engine is None:
            self.engine = Engine(self.path)
        self._version = f"base@{self.engine.fingerprint[:12]}"
        if (Path(self.path) / CARD).is_file():
            self._version = read_card(self.path).name
        if self.adapter:
            card = verify_student(
                self.adapter, self.path, fingerprint=self.engine.fingerprint, shapes=self.engine.shapes
            )
            self._adapter_name = self.engine.load_adapter(self.adapter) if card.form == "adapter" else None
            if card.form == "full":
                self.engine = Engine(self.adapter)
            self._version = card.name

    @property
    def version(self) -> str:
        """`base@` or `student@` and 12 hex digits; equal versions say the same."""
        return self._version

    @property
    def tokenizer(self) -> Any:
        return self.engine.tokenizer

    def with_adapter(self, folder: str | Path) -> LocalChatModel:
        """The same model and settings with a student, after checking it. An adapter shares the loaded base; full
        weights are loaded beside it."""
        settings = {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens", "seed", "stop")}
        return LocalChatModel(path=self.path, adapter=str(folder), engine=self.engine, **settings)

    def unload(self) -> None:
        """Free the student of this model; the base it shares with others stays."""
        if self._adapter_name:
            self.engine.unload_adapter(self._adapter_name)
            self._adapter_name = None
        elif self.adapter:
            self.engine.close()

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
    def _llm_type(self) -> str:
        return "steper-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"version": self._version, "temperature": self.temperature, "top_p": self.top_p,
                "max_tokens": self.max_tokens, "seed": self.seed, "stop": self.stop}  # fmt: skip

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
        )

    def _reply(self, messages: Sequence[BaseMessage], request: Request, options: dict[str, Any]) -> Reply:
        tools = () if options.get("tool_choice") == "none" else options.get("tools") or ()
        return Reply(request, self._version, tools, fresh_ids(messages))

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:  # fmt: skip
        request = self._request(messages, stop, kwargs)
        reply = self._reply(messages, request, kwargs).message(list(self.engine.stream(request)))
        return ChatResult(generations=[ChatGeneration(message=reply)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:  # fmt: skip
        request = self._request(messages, stop, kwargs)
        events = [event async for event in self.engine.astream(request)]
        reply = self._reply(messages, request, kwargs).message(events)
        return ChatResult(generations=[ChatGeneration(message=reply)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:  # fmt: skip
        request = self._request(messages, stop, kwargs)
        reply = self._reply(messages, request, kwargs)
        for event in self.engine.stream(request):
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
        async for event in self.engine.astream(request):
            chunk = ChatGenerationChunk(message=reply.chunk(event))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
