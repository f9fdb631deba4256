"""No retrieval at all, a baseline: what the model knows by itself."""

from __future__ import annotations

from langchain_core.messages import BaseMessage

from graphs.strategies import ircot
from graphs.strategies.layout import prefix, show, user
from graphs.strategies.strategy import Chain

NAME = "direct"
STOP = ("\n",)
OPENS = False
MOST_STEPS = 0
TOOLS = False

CONCLUSION = ircot.CONCLUSION
SYSTEM = f"Answer the question in one line: {CONCLUSION} ANSWER."

read = ircot.read
read_answer = ircot.read_answer


def reason(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    """As `answer`: there is nothing to reason about between searches."""
    return answer(chain, continues=continues)


def answer(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    shown = user(show(chain.question, []), continues=continues)
    return [shown, *prefix([CONCLUSION])] if continues else [shown]


def conversation(chain: Chain) -> list[BaseMessage]:
    return [user(show(chain.question, []), continues=True), *prefix([CONCLUSION, f" {chain.answer}.\n"])]
