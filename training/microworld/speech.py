"""How the symbolic teacher puts the next piece of reasoning into each strategy's words. Pure: from a prompt to a reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

from langchain_core.messages import AIMessage, BaseMessage, ToolCall

from graphs import conversation
from graphs.strategies import chain_of_note, direct, ircot, sail, self_ask, self_rag, single_step, tool_calling
from training.microworld.asking import Meaning, understand
from training.microworld.language import UNKNOWN, Fact, canonical, conclusions_in, disputed, facts_in, missing

PASSAGE_LINE = re.compile(r"^\[\d+\] [^:\n]+: (?P<text>.+)$", re.MULTILINE)
QUESTION_LINE = re.compile(r"^(?:Last q|Q)uestion: (?P<text>.+)$", re.MULTILINE)
POINTER = re.compile(r"\b(?:she|he|it|they|her|him|them|that|there)\b(?=\W*$)", re.IGNORECASE)
"""A word at a follow-up question's end that means what was answered last."""
CANNOT_TELL = f"The passages do not say what is asked. {ircot.CONCLUSION} {UNKNOWN}."
LEADS = ("", "The passages say: ")
"""A line begins with one of these. Like a real teacher's, its wording is not to be foreseen from the question: without that a
good student's losses vanish but for rare mistakes, and a σ that follows them means nothing."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the teacher makes of the messages it is shown."""

    meaning: Meaning | None
    """None where the question is none of this world's."""
    read: tuple[Fact, ...]
    """Facts in the passages."""
    known: tuple[Fact, ...]
    """Facts the reasoning has stated."""
    said: str
    """The reasoning so far, as one text."""
    lead: str
    """How this line begins: a matter of the prompt's words alone, so that a resumed run repeats an undisturbed one."""
    patience: int
    """Searches for one fact after which it concludes that nobody can know; 0: it never does by itself."""


def reply(messages: Sequence[BaseMessage], leads: Sequence[str] = ("",), patience: int = 0) -> AIMessage:
    """The teacher's turn in whatever way of reasoning the system message asks for; `ircot` where it asks for none."""
    system = messages[0].text if messages[0].type == "system" else ""
    if system == conversation.SYSTEM:
        return AIMessage(stand_alone(messages[-1].text))
    return SPEAKERS.get(system, next_line)(messages, understood(messages, leads, patience))


def understood(messages: Sequence[BaseMessage], leads: Sequence[str] = ("",), patience: int = 0) -> Prompt:
    shown = "\n".join(message.text for message in messages if not isinstance(message, AIMessage))
    said = "\n".join(message.text for message in messages if isinstance(message, AIMessage))
    asked = QUESTION_LINE.findall(shown)
    read = [fact for text in PASSAGE_LINE.findall(shown) for fact in facts_in(text)]
    prompt = "\n".join(message.text for message in messages)
    return Prompt(
        meaning=understand(asked[-1].strip()) if asked else None, read=tuple(read), known=tuple(conclusions_in(said)),
        said=said, lead=leads[crc32(prompt.encode()) % len(leads)], patience=patience,
    )  # fmt: skip


def next_line(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """One fact a line; or the bare answer where the turn to go on with already says `So the answer is:`."""
    if messages[-1].text.endswith(ircot.CONCLUSION):
        return AIMessage(f" {_conclusion(prompt)}.")
    if prompt.meaning is None:
        return AIMessage(prompt.lead + CANNOT_TELL)
    line, ends = _advance(prompt.meaning, prompt, prompt.known)
    return AIMessage(prompt.lead + (f"{line} {ircot.CONCLUSION} {ends}.".strip() if ends else line))


def whole_chain(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """Every fact there is, one after another, and the answer, or `unknown` where a fact is missing."""
    if prompt.meaning is None or messages[-1].text.endswith(ircot.CONCLUSION):
        return next_line(messages, prompt)
    known, lines, ends = list(prompt.known), list[str](), None
    while ends is None and (not lines or lines[-1] in {canonical(fact) for fact in prompt.read}):
        line, ends = _advance(prompt.meaning, prompt, known)
        lines.append(line)
        known += conclusions_in(line)
    return AIMessage(f"{prompt.lead}{' '.join(lines)} {ircot.CONCLUSION} {ends or UNKNOWN}.")


def with_notes(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """The whole chain behind a note on every passage: the facts of the chain that it states."""
    line = whole_chain(messages, prompt).text
    notes = [" ".join(map(canonical, facts)) for facts in _used(messages, line)]
    return AIMessage(line if messages[-1].text.endswith(ircot.CONCLUSION) else chain_of_note.write(notes, line))


def with_judgements(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """The whole chain behind a judgement of every passage."""
    line = whole_chain(messages, prompt).text
    judged = [bool(facts) for facts in _used(messages, line)]
    return AIMessage(line if messages[-1].text.endswith(ircot.CONCLUSION) else sail.write(judged, line))


def with_marks(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """One fact a line between Self-RAG's marks; what is not found is neither relevant nor supported."""
    line = next_line(messages, prompt).text
    if messages[-1].text.endswith(ircot.CONCLUSION):
        return AIMessage(line)
    is_found = bool(conclusions_in(line)) or (prompt.meaning is not None and _ends(prompt.meaning, prompt.known) is not None)
    return AIMessage(self_rag.write(line, is_relevant=is_found, support="Fully supported" if is_found else "No support",
                                    utility=self_rag.MOST_USEFUL if ircot.CONCLUSION in line else None))


def by_heart(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """The world is in the passages alone: without them nothing is known."""
    del messages, prompt
    return AIMessage(f" {UNKNOWN}.")


def follow_up(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """The intermediate answer to the last follow-up question, and the next one or the final answer."""
    if messages[-1].text.endswith(self_ask.CONCLUSION):
        return AIMessage(f" {_conclusion(prompt)}.")
    if prompt.meaning is None:
        return AIMessage(f"{self_ask.CONCLUSION} {UNKNOWN}.")
    if self_ask.FOLLOW_UP not in prompt.said:
        return AIMessage(f"{self_ask.FOLLOW_UP} {_query(prompt.meaning, prompt, tried='')}")
    line, ends = _advance(prompt.meaning, prompt, prompt.known)
    known = (*prompt.known, *conclusions_in(line))
    then = f"{self_ask.CONCLUSION} {ends}." if ends else f"{self_ask.FOLLOW_UP} {_query(prompt.meaning, prompt, known, prompt.said)}"
    return AIMessage(f"{self_ask.INTERMEDIATE} {prompt.lead}{line}\n{then}")


def tool_call(messages: Sequence[BaseMessage], prompt: Prompt) -> AIMessage:
    """A fact and the search for the next one, or, without a call, the fact that settles the question and the answer."""
    if messages[-1].text == tool_calling.CLOSE:
        return AIMessage(f"{ircot.CONCLUSION} {_conclusion(prompt)}.")
    if prompt.meaning is None:
        return AIMessage(CANNOT_TELL)
    asked = " ".join(str(call["args"]) for m in messages if isinstance(m, AIMessage) for call in m.tool_calls)
    if not asked:
        return _calling(_left(prompt.meaning, ()), _query(prompt.meaning, prompt, tried=""))
    line, ends = _advance(prompt.meaning, prompt, prompt.known)
    if ends:
        return AIMessage(f"{prompt.lead}{line} {ircot.CONCLUSION} {ends}.")
    known = (*prompt.known, *conclusions_in(line))
    return _calling(f"{prompt.lead}{line} {_left(prompt.meaning, known)}", _query(prompt.meaning, prompt, known, asked))


SPEAKERS: dict[str, Callable[[Sequence[BaseMessage], Prompt], AIMessage]] = {
    ircot.SYSTEM: next_line, single_step.SYSTEM: whole_chain, direct.SYSTEM: by_heart,
    self_ask.SYSTEM: follow_up, tool_calling.SYSTEM: tool_call, chain_of_note.SYSTEM: with_notes, sail.SYSTEM: with_judgements,
    self_rag.SYSTEM: with_marks,
}  # fmt: skip


def stand_alone(text: str) -> str:
    """A follow-up question with the last answer in place of the word that points at it."""
    answers = re.findall(r"^A: (.+)$", text, re.MULTILINE)
    asked = QUESTION_LINE.findall(text)[-1].strip()
    asked = re.sub(r"^and\s+(\w)", lambda found: found[1].upper(), asked, flags=re.IGNORECASE)
    return POINTER.sub(lambda _: answers[-1], asked) if answers else asked


def _used(messages: Sequence[BaseMessage], line: str) -> list[list[Fact]]:
    """Of every passage shown, the facts that a line states too."""
    shown = "\n".join(message.text for message in messages if not isinstance(message, AIMessage))
    stated = set(conclusions_in(line))
    return [[fact for fact in facts_in(text) if fact in stated] for text in PASSAGE_LINE.findall(shown)]


def _calling(said: str, query: str) -> AIMessage:
    return AIMessage(said, tool_calls=[ToolCall(name="search", args={"query": query}, id="call00000", type="tool_call")])


def _query(meaning: Meaning, prompt: Prompt, known: Sequence[Fact] | None = None, tried: str = "") -> str:
    """What to look for next; where that very query has brought nothing, the name alone."""
    subject, label = _needed(meaning, prompt.known if known is None else known) or ("", "")
    query = f"What is the {label} of {subject}?"
    return f"What is {subject}?" if query in tried else query


def _conclusion(prompt: Prompt) -> str:
    ends = prompt.meaning and _ends(prompt.meaning, prompt.known)
    return ends or UNKNOWN


def _advance(meaning: Meaning, prompt: Prompt, known: Sequence[Fact]) -> tuple[str, str | None]:
    """One more fact of the chain as a line, and the answer once every path is followed to its end, or nobody can follow it."""
    needed, line = _needed(meaning, known), ""
    if needed is not None:
        found = list(dict.fromkeys(fact for fact in prompt.read if fact[:2] == needed))
        if not found:
            line = missing(*needed)
            return line, UNKNOWN if 0 < prompt.patience <= 1 + prompt.said.count(line) else None
        if len(found) > 1:
            return disputed(*needed), UNKNOWN
        known = [*known, *found]
        line = canonical(found[0])
    return line, _ends(meaning, known)


def _needed(meaning: Meaning, known: Sequence[Fact]) -> tuple[str, str] | None:
    """Subject and relation of the first fact the reasoning has not stated yet."""
    stated = {(fact.subject, fact.label): fact.object for fact in known}
    for path in meaning.paths:
        at = path.start
        for label in path.labels:
            if (at, label) not in stated:
                return at, label
            at = stated[at, label]
    return None


def _left(meaning: Meaning, known: Sequence[Fact]) -> str:
    """What is still to be found, in the order it will be. The question stands far above by then, at the head of the
    conversation: a small student loses count of its hops where nothing says them again."""
    stated = {(fact.subject, fact.label): fact.object for fact in known}
    plans = []
    for path in meaning.paths:
        at, labels = path.start, list(path.labels)
        while labels and (at, labels[0]) in stated:
            at = stated[at, labels.pop(0)]
        if labels:
            plans.append((at, ", then ".join(f"the {label}" for label in labels)))
    return f"I need {' and '.join(f'{plan} from {at}' if len(plans) > 1 else plan for at, plan in plans)}."


def _ends(meaning: Meaning, known: Sequence[Fact]) -> str | None:
    """The answer, once all paths are known."""
    if _needed(meaning, known) is not None:
        return None
    stated = {(fact.subject, fact.label): fact.object for fact in known}
    ends = []
    for path in meaning.paths:
        at = path.start
        for label in path.labels:
            at = stated[at, label]
        ends.append(at)
    return meaning.conclude(tuple(ends))
