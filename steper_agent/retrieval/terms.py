"""How text becomes terms: words in lower case, without accents and stop words, stemmed. One analyzer for passages and queries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from steper_agent.records import Record
from steper_agent.retrieval.sources.normal import clean

if TYPE_CHECKING:
    from tantivy import TextAnalyzer

Language = Literal[
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian", "norwegian",
    "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish", "none",
]  # fmt: skip
"""Those with a Snowball stemmer in Tantivy; `none` leaves words as they are."""

LONGEST = 255
"""Bytes of a term; longer ones (a key in base 64) are left out, in passages and in queries."""

ENGLISH = (
    *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not"),
    *("of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was"),
    *("will", "with"),
    *("who", "whom", "whose", "what", "which", "when", "where", "why", "how"),
    *("did", "does", "do", "has", "have", "had", "were", "being", "been"),
)
"""Lucene's English list, and the words that make a sentence a question. Searching for those finds no more of the supporting passages of
HotpotQA, 2WikiMultiHopQA and MuSiQue questions, and takes about three times as long on generated passages: of HotpotQA's own a sixth hold a "who"."""

_HAS_LIST = {"danish", "dutch", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese", "russian",
             "spanish", "swedish"}  # fmt: skip
"""Languages for which Tantivy brings stop words."""


_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")


class LexicalSettings(Record):
    """Everything that decides how text becomes terms and what a term counts; kept with the index."""

    language: Language = "english"
    stop_words: tuple[str, ...] | None = None
    """Words that are not searched, in lower case. None: the language's own list, `ENGLISH` for English."""
    title_weight: float = Field(default=0.4, ge=0, le=100)
    """What a word of the title counts once more, beside counting as one of the text. 0.4 found the most supporting passages of
    HotpotQA, 2WikiMultiHopQA and MuSiQue questions together."""


class Terms:
    """Text to terms, as the index holds them."""

    def __init__(self, settings: LexicalSettings) -> None:
        self._analyzer = analyzer(settings)

    def __call__(self, text: str) -> list[str]:
        return self._analyzer.analyze(spaced(clean(text)))


def analyzer(settings: LexicalSettings) -> TextAnalyzer:
    """What Tantivy makes of text that was `spaced`."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    # Its tokenizer of regular expressions could cut Chinese too, and takes four times as long.
    made = TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.remove_long(LONGEST + 1)).filter(Filter.lowercase())
    # Before accents go: the lists are written with them.
    if settings.stop_words is not None:
        made = made.filter(Filter.custom_stopword([word.lower() for word in settings.stop_words]))
    elif settings.language == "english":
        made = made.filter(Filter.custom_stopword(list(ENGLISH)))
    elif settings.language in _HAS_LIST:
        made = made.filter(Filter.stopword(settings.language))
    made = made.filter(Filter.ascii_fold())
    return made.build() if settings.language == "none" else made.filter(Filter.stemmer(settings.language)).build()


def spaced(text: str) -> str:
    """Chinese and Japanese are written without spaces: each of their characters is a word, as in Lucene's standard analyzer."""
    return text if text.isascii() else _UNSPACED.sub(r" \g<0> ", text)
