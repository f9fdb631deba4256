"""What an answer rests on: for every step, the passages that state what its rationale says. By words, not by a model, so
that it costs nothing and cannot be talked into anything; it finds where to look, it does not prove."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from graphs.state import EvidenceState
from graphs.strategies.reading import one_line
from graphs.strategies.strategy import Chain
from steper_agent.records import Hit

ENOUGH = 0.6
"""Share of a rationale's words that a passage must hold for the rationale to rest on it."""
PLAIN_ANSWERS = frozenset({"yes", "no", "true", "false"})
STOP_WORDS = frozenset(
    ["a", "an", "and", "are", "as", "at", "be", "by", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "i", "in", "is", "it", "its", "of", "on", "or", "so", "that", "the", "their", "there", "they", "this", "to", "was", "were", "which", "who", "whose", "will", "with", "final", "answer", "passages", "passage", "say", "not", "what"]
)


def evidence_of(chain: Chain) -> tuple[list[EvidenceState], bool]:
    """Every step with the passages its rationale rests on, of all that were read up to it, the best supported first;
    and whether the answer is supported."""
    known = {passage.id: words(f"{passage.title} {passage.text}") for passage in chain.passages}
    read: list[Hit] = []
    told = []
    for number, step in enumerate(chain.steps, start=1):
        read += step.hits
        rests = [{"id": hit.passage.id, "title": one_line(hit.passage.title), "score": hit.score}
                 for hit in supporting(step.rationale, read, known)]
        told.append(EvidenceState(step=number, query=step.query, rationale=step.rationale, passages=rests))
    rests_somewhere = any(step["passages"] for step in told)
    return told, rests_somewhere and _is_stated(chain.answer, known)


def supporting(rationale: str, hits: Sequence[Hit], known: Mapping[str, frozenset[str]]) -> list[Hit]:
    """The hits whose passages hold most of what a rationale says, those that hold more first."""
    said = words(rationale)
    if not said:
        return []
    shares = [(len(said & known[hit.passage.id]) / len(said), hit) for hit in hits]
    best = max((share for share, _ in shares), default=0.0)
    # A passage well behind the best one shares the topic, not the statement.
    kept = [(share, hit) for share, hit in shares if share >= max(ENOUGH, 0.9 * best)]
    return [hit for _, hit in sorted(kept, key=lambda pair: -pair[0])]


def _is_stated(answer: str, known: Mapping[str, frozenset[str]]) -> bool:
    """Whether a passage holds the answer's words. A yes or no stands in no passage: it is as good as the steps that led
    to it, and so is an answer of nothing but stop words."""
    wanted = words(answer)
    if not answer.strip():
        return False
    return wanted <= PLAIN_ANSWERS or any(wanted <= held for held in known.values())


def words(text: str) -> frozenset[str]:
    """The words of a text that say something."""
    return frozenset(re.findall(r"\w+", text.lower())) - STOP_WORDS
