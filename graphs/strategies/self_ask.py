"""Self-Ask (Press et al. 2022) with retrieval: the model asks a follow-up question, passages are found for it, and the
intermediate answer closes the step. One turn closes a step and opens the next: both lines rest on the same passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from graphs.strategies.layout import FENCE, prefix, show, user
from graphs.strategies.reading import bare, find_answer, first_line, one_line, silence, visible
from graphs.strategies.strategy import Chain, Turn, query_of, search

NAME = "self_ask"
FOLLOW_UP, INTERMEDIATE, CONCLUSION = "Follow up:", "Intermediate answer:", "So the final answer is:"
STOP = (f"\n{INTERMEDIATE}",)
"""What follows a follow-up question is the graph's to find."""
OPENS = True
MOST_STEPS = None
TOOLS = False

SYSTEM = (
    f"Answer the question by asking follow-up questions, one at a time. Write a line `{FOLLOW_UP} QUESTION`; passages are "
    f"then found for it. Answer it from the passages with a line `{INTERMEDIATE} ANSWER` and write the next follow-up "
    f"question, or, when the question is settled, the line: {CONCLUSION} ANSWER. {FENCE}"
)
OPEN = f"\n\nWrite only the first line: {FOLLOW_UP} QUESTION"
CONTINUE = (
    f"\n\nYour reasoning so far:\n{{lines}}\n\nWrite two lines: {INTERMEDIATE} ANSWER, and then "
    f"{FOLLOW_UP} QUESTION or {CONCLUSION} ANSWER."
)
CLOSE = f"\n\nYour reasoning so far:\n{{lines}}\n\nNo more passages can be read. Write one line: {CONCLUSION} ANSWER."


def reason(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    shown = show(chain.question, chain.passages)
    if continues:
        return [user(shown, continues=True), *prefix(blocks(chain))]
    wanted = CONTINUE.format(lines="".join(blocks(chain)).strip()) if chain.steps else OPEN
    return [user([*shown, wanted], continues=False)]


def answer(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    shown = show(chain.question, chain.passages)
    if continues:
        return [user(shown, continues=True), *prefix([*blocks(chain), CONCLUSION])]
    return [user([*shown, CLOSE.format(lines="".join(blocks(chain)).strip())], continues=False)]


def conversation(chain: Chain) -> list[BaseMessage]:
    return reason(chain, continues=True)


def blocks(chain: Chain) -> list[str]:
    """What the model wrote, turn by turn: an intermediate answer, if a step is closed, and what comes of it."""
    asked = [step.query for step in chain.steps] + ([query_of(chain.asks)] if chain.asks else [])
    opening = [f"{FOLLOW_UP} {asked[0]}\n"] if asked else []
    is_open = bool(chain.steps) and not chain.steps[-1].rationale
    closed = chain.steps[:-1] if is_open else chain.steps
    return opening + [_block(step.rationale, asked[number : number + 1]) for number, step in enumerate(closed, start=1)]


def _block(line: str, asked: Sequence[str]) -> str:
    said, concludes, answered = line.partition(CONCLUSION)
    lines = [f"{INTERMEDIATE} {said.strip()}"] if said.strip() else []
    ends = [f"{CONCLUSION} {answered.strip()}"] if concludes else [f"{FOLLOW_UP} {query}" for query in asked]
    return "".join(f"{one}\n" for one in [*lines, *ends])


def read(reply: AIMessage, tools: Sequence[Mapping[str, Any]] = ()) -> Turn:
    del tools
    said, asked = "", ""
    for line in map(one_line, visible(reply).splitlines()):
        label, colon, rest = line.partition(":")
        name = label.strip(" *#-").lower().replace("-", " ")
        if colon and name in ("follow up", "follow up question") and rest.strip(" *"):
            asked = rest.strip(" *")
            break
        is_intermediate = bool(colon) and name == "intermediate answer"
        if is_intermediate:
            if said:
                break
            line = rest.strip(" *")
        said = f"{said} {line}".strip()
        # "The answer is X" answers the follow-up question there, unless it is said in the very words that conclude.
        if (not is_intermediate or CONCLUSION in line) and (found := find_answer(line)):
            return Turn(said, answer=found)
    if asked:
        return Turn(said, calls=(search(asked),))
    return Turn(said, fault="neither a follow-up question nor a final answer" if said else silence(reply))


def read_answer(reply: AIMessage) -> str:
    text = visible(reply)
    return find_answer(text) or bare(first_line(text))
