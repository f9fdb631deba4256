"""Model text becomes lines and answers. Everything here takes any text, in time proportional to its length."""

from __future__ import annotations

import re

from langchain_core.messages import AIMessage

LONGEST = 20_000
"""Characters of a reply, its thoughts left out, that are read; a model that writes more has lost its way."""

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", flags=re.DOTALL)
_CONCLUSION = re.compile(r"\bthe (?:final )?answer is:?[ \t]*(?P<answer>[^:\s][^\n]*)", flags=re.IGNORECASE)


def visible(reply: AIMessage) -> str:
    """What a reply says aloud, without a thinking model's thoughts."""
    return _THOUGHT.sub("", reply.text).rpartition("</think>")[2][:LONGEST]


def one_line(text: str) -> str:
    return " ".join(text.split())


def first_line(text: str) -> str:
    """The first line that says anything."""
    return next((one_line(line) for line in text.splitlines() if line.strip()), "")


def find_answer(text: str) -> str:
    """The text behind the conclusion, up to its line's end and without a closing full stop; empty if nothing concludes."""
    found = _CONCLUSION.search(text)
    return bare(found["answer"]) if found else ""


def bare(answer: str) -> str:
    """An answer without the full stop, quotes and emphasis around it."""
    return answer.strip().removesuffix(".").strip(" *\"'`")


def unconcluded(text: str) -> str:
    """The text without its conclusion and the word that leads to it."""
    found = _CONCLUSION.search(text)
    return re.sub(r"\b(?:so|thus|therefore|hence),?\s*$", "", text[: found.start()], flags=re.IGNORECASE).strip() if found else text
