"""Model text becomes lines and answers. Everything here takes any text, in time proportional to its length."""

from __future__ import annotations

import re

from langchain_core.messages import AIMessage

LONGEST = 20_000
"""Characters of a reply, its thoughts left out, that are read; a model that writes more has lost its way."""

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", flags=re.DOTALL)
_LEAD = r"(?P<lead>\bthe (?:final )?answer is)"
_CONCLUSION = re.compile(rf"{_LEAD}:[ \t]*(?=[^:\s])", flags=re.IGNORECASE)
# Without a colon it may be said of any passage ("whether the answer is in [2]") wherever it begins no sentence, clause or conclusion.
_LOOSE = re.compile(
    rf"(?:^|[.!?,]|\b(?:so|thus|therefore|hence),?)[ \t*\"'`]*{_LEAD}[ \t]+(?=[^:\s])", flags=re.IGNORECASE | re.MULTILINE
)
_MARKS = " *\"'`"


def visible(reply: AIMessage) -> str:
    """What a reply says aloud, without a thinking model's thoughts."""
    return _THOUGHT.sub("", reply.text).rpartition("</think>")[2][:LONGEST]


def is_in_thought(reply: AIMessage) -> bool:
    """Whether it ends before its thoughts do."""
    return "<think>" in reply.text and "</think>" not in reply.text


def silence(reply: AIMessage) -> str:
    """Why a reply says nothing aloud."""
    return "its tokens were used up before its thought was at an end: give it more max_tokens" if is_in_thought(reply) else "the model wrote nothing"


def one_line(text: str) -> str:
    return " ".join(text.split())


def first_line(text: str) -> str:
    """The first line that says anything."""
    return next((one_line(line) for line in text.splitlines() if line.strip()), "")


def find_answer(text: str) -> str:
    """The text behind the last conclusion, up to its line's end and without a closing full stop; empty if nothing concludes."""
    found = _conclusion(text)
    return bare(text[found.end() :].partition("\n")[0]) if found else ""


def bare(answer: str) -> str:
    """An answer without the full stop, quotes and emphasis around it."""
    return answer.strip().strip(_MARKS).removesuffix(".").strip(_MARKS)


def unconcluded(text: str) -> str:
    """The text without its conclusion and the word that leads to it."""
    found = _conclusion(text)
    return re.sub(r"\b(?:so|thus|therefore|hence),?\s*$", "", text[: found.start("lead")], flags=re.IGNORECASE).strip() if found else text


def _conclusion(text: str) -> re.Match[str] | None:
    """The last one, of those with a colon where there are any: what stands before it was said on the way."""
    return next((found for form in (_CONCLUSION, _LOOSE) for found in reversed(list(form.finditer(text)))), None)
