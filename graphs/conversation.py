"""A follow-up question ("and where was she born?") becomes one that stands alone, from the conversation before it."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from graphs.asking import called_until, show, stop_of
from graphs.recording import Done, fields_of, recorded
from graphs.state import Context, QAState, TurnState
from graphs.strategies.reading import first_line, one_line, visible

SYSTEM = (
    "Rewrite the last question so that it can be understood without the conversation: put names in place of words like "
    "`she`, `it` or `there`. Do not answer it. Write only the question, on one line."
)
LEAD = "Standalone question:"


async def rewritten(
    state: QAState, model: BaseChatModel, runtime: Runtime[Context], config: RunnableConfig
) -> str:
    """The question on its own; as it was asked where the model makes nothing of it."""
    asked = one_line(state["question"])
    messages = prompt(bounded(state["history"], model, runtime.context.history_tokens), asked)

    async def act() -> Done:
        reply = await called_until(model, messages, config, stop_of(model, ["\n"]))
        said = first_line(visible(reply)).removeprefix(LEAD).strip(" \"'`")
        return Done(said or asked, outcome="ok" if said else "parse_error", **fields_of(reply))

    return (await recorded(runtime, state, "begin", show(messages), act)).output


def prompt(history: Sequence[BaseMessage], asked: str) -> list[BaseMessage]:
    """One turn that quotes the conversation, line by line, so that no line of it can be taken for an instruction."""
    quoted = [f"{'Q' if message.type == 'human' else 'A'}: {one_line(message.text)}" for message in history]
    return [SystemMessage(SYSTEM), HumanMessage("\n".join([*quoted, "", f"Last question: {asked}", LEAD]))]


def bounded(history: Sequence[TurnState], model: BaseChatModel, most_tokens: int) -> list[BaseMessage]:
    """The latest turns that fit, counted with the model's own tokenizer where we hold it."""
    messages: list[BaseMessage] = [
        AIMessage(turn["content"]) if turn["role"] == "assistant" else HumanMessage(turn["content"]) for turn in history
    ]
    tokenizer = getattr(model, "tokenizer", None)

    def count(counted: list[BaseMessage]) -> int:
        if tokenizer is None:
            return count_tokens_approximately(counted)
        return sum(len(tokenizer.encode(message.text, add_special_tokens=False)) for message in counted)

    return trim_messages(messages, max_tokens=most_tokens, token_counter=count, strategy="last")
