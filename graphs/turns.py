"""One turn of one model in a state of a run: its next line, or the answer when nothing more may be read."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from graphs.asking import ask, continues, prompt_of, show, tools_of
from graphs.recording import By, Done, fields_of, recorded
from graphs.state import Context, QAState, chain_of
from graphs.strategies import strategy_named
from graphs.strategies.reading import silence
from graphs.strategies.strategy import Turn, search
from graphs.strategies.tool_calling import repair
from steper_agent.records import NodeRecord


async def next_turn(
    model: BaseChatModel, state: QAState, runtime: Runtime[Context], config: RunnableConfig, by: By | None = None
) -> NodeRecord:
    """What `model` says in a state of the run, read and recorded: as the run's own turn, or as a label of `by`."""
    context = runtime.context
    strategy, tools = strategy_named(context.strategy), tools_of(context)
    messages = prompt_of(strategy, strategy.reason(chain_of(state), continues=continues(model)), context.exemplars)

    async def act() -> Done:
        replies = [await ask(model, messages, strategy, tools, config)]
        turn, note = strategy.read(replies[0], tools), ""
        if turn.fault and strategy.TOOLS:
            note = f"repaired: {turn.fault}"
            again = [*messages, *repair(replies[0], turn.fault)]
            replies = [await ask(model, again, strategy, tools, config), *replies]
            turn = strategy.read(replies[0], tools)
        if turn.fault:
            turn, note = Turn(turn.rationale, calls=(search(state["question"]),), fault=turn.fault), turn.fault
        return Done(turn.rationale, calls=turn.calls, answer=turn.answer, note=note,
                    outcome="parse_error" if turn.fault else "ok", **fields_of(*replies))

    return await recorded(runtime, state, "label" if by else "reason", show(messages), act, given=tools, by=by)


async def last_turn(
    model: BaseChatModel, state: QAState, runtime: Runtime[Context], config: RunnableConfig, by: By | None = None
) -> NodeRecord:
    """As `next_turn`, for the answer."""
    context = runtime.context
    strategy, tools = strategy_named(context.strategy), tools_of(context)
    messages = prompt_of(strategy, strategy.answer(chain_of(state), continues=continues(model)), context.exemplars)

    async def act() -> Done:
        reply = await ask(model, messages, strategy, tools, config)
        said = strategy.read_answer(reply)
        return Done(said, outcome="ok" if said else "parse_error", note="" if said else silence(reply), **fields_of(reply))

    return await recorded(runtime, state, "label" if by else "answer", show(messages), act, given=tools, by=by)
