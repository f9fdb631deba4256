"""One call of the run's model: which version it is, what goes before the strategy's messages, and how tools are offered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import add_usage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.utils.function_calling import convert_to_openai_tool

from graphs.bridge import called
from graphs.state import Context, QAState
from graphs.strategies import strategy_named
from graphs.strategies.reading import is_in_thought
from graphs.strategies.strategy import SEARCH, Chain, Strategy
from graphs.strategies.tool_calling import SEARCH_TOOL
from steper_agent.chat.turns import plain_turns
from steper_agent.errors import ConfigError
from steper_agent.models.slot import ModelSlot

Tools = Sequence[Mapping[str, Any]]


def leased(state: QAState, context: Context) -> tuple[str, BaseChatModel]:
    """The run's model and its version. A run that was interrupted or failed may have lost its lease: it gets the same
    version again where that is still loaded, else the current one."""
    if not isinstance(context.model, ModelSlot):
        return state.get("model") or version_of(context.model), context.model
    version = context.model.lease(state["run"], state.get("model") or None)
    return version, context.model.model(version)


def version_of(model: BaseChatModel) -> str:
    """What the model calls itself."""
    for name in ("version", "model_name", "model"):
        if isinstance(value := getattr(model, name, None), str) and value:
            return value
    return type(model).__name__


def continues(model: BaseChatModel) -> bool:
    """Whether the model can go on in the middle of its own turn."""
    return bool(getattr(model, "continues_final_message", False))


def stop_of(model: BaseChatModel, texts: Sequence[str]) -> list[str] | None:
    """What ends a turn of this model. Readers cut behind it anyway, and providers refuse it: some a stop of whitespace, some any."""
    return list(texts) or None if continues(model) else None


def prompt_of(strategy: Strategy, body: Sequence[BaseMessage], exemplars: Sequence[Chain] = ()) -> list[BaseMessage]:
    """The strategy's messages with its system message and the exemplars before them, in their order."""
    shown = [_whole(message) for chain in exemplars for message in strategy.conversation(chain)]
    return [SystemMessage(strategy.SYSTEM), *shown, *body]


def tools_of(context: Context) -> list[dict[str, Any]]:
    """The schemas of what the model may call; none where the strategy makes no calls.

    Raises:
        ConfigError: a tool of the caller's has the name of our own, by which it would never be reached.
    """
    if not strategy_named(context.strategy).TOOLS:
        return []
    if any(tool.name == SEARCH for tool in context.tools):
        raise ConfigError(f"a tool is called `{SEARCH}`", where="Context(tools=…)", fix=f"give it another name: `{SEARCH}` is the graph's own")
    return [SEARCH_TOOL, *(convert_to_openai_tool(tool) for tool in context.tools)]


async def ask(
    model: BaseChatModel, messages: list[BaseMessage], strategy: Strategy, tools: Tools, config: RunnableConfig
) -> AIMessage:
    """The model's reply; a model that knows no tools is told of them in words."""
    stop = stop_of(model, strategy.STOP)
    if not tools:
        return await called_until(model, messages, config, stop)
    try:
        bound = model.bind_tools([dict(tool) for tool in tools])
    except NotImplementedError:
        return await called_until(model, in_words(messages, tools), config, stop)
    return await called_until(bound, messages, config, stop)


async def called_until(
    model: Runnable[Any, AIMessage], messages: list[BaseMessage], config: RunnableConfig, stop: list[str] | None
) -> AIMessage:
    """The reply up to the first stop. A thought has lines of its own: one that was cut is asked for once more, to its end, and the
    reply tells what both cost."""
    reply = await called(model, messages, config, stop=stop)
    if not (stop and is_in_thought(reply)):
        return reply
    whole = await called(model, messages, config, stop=None)
    if not (reply.usage_metadata and whole.usage_metadata):
        return whole
    return whole.model_copy(update={"usage_metadata": add_usage(reply.usage_metadata, whole.usage_metadata)})


def in_words(messages: Sequence[BaseMessage], tools: Tools) -> list[BaseMessage]:
    """The conversation without tool messages: tools described, calls written out, results quoted by the user."""
    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    turns = plain_turns(messages, tools, str)
    return [kinds[turn.fields["role"]]("".join(part.text for part in turn.content)) for turn in turns]


def show(messages: Sequence[BaseMessage]) -> str:
    """A prompt as one text, for the journal."""
    last = messages[-1]
    ends = "" if isinstance(last, AIMessage) else "\n<ai>"
    return "\n".join(f"<{message.type}>\n{message.text}{_calls(message)}" for message in messages) + ends


def _calls(message: BaseMessage) -> str:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return "".join(f"\n{call['name']}({call['args']})" for call in calls)


def _whole(message: BaseMessage) -> BaseMessage:
    """An exemplar's turn is over: its blocks become one text, so that no model takes it for the turn to go on with."""
    return message.model_copy(update={"content": message.text.strip()})
