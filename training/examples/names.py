"""What a text speaks of, by its words: names, numbers and quoted texts. No model reads it."""

from __future__ import annotations

import re

from graphs.evidence import words

_SENTENCE_END = re.compile(r"(?<!\b[^\W\d_])[.!?]+\s+(?=[^\W\d_])|\n")
"""Neither the full stop of an initial nor that of No. 1."""
_WORD = re.compile(r"[^\W_]+")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]+)[\"”»]")
_CITED = re.compile(r"\[\d+\]|\bpassages? \d+", flags=re.IGNORECASE)
_LEADS = frozenset(
    ["according", "after", "all", "also", "although", "another", "because", "before", "both", "but", "during", "either", "finally",
     "first", "hence", "how", "however", "if", "like", "neither", "next", "no", "not", "now", "one", "only", "since", "some",
     "such", "then", "therefore", "these", "this", "those", "though", "thus", "under", "we", "when", "where", "while", "with", "you"]
)
"""Words that open sentences and name nothing."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")


def named(text: str, *, openers: bool = False) -> list[frozenset[str]]:
    """What a text speaks of: names in capitals, numbers, quoted texts, each as its words. The word that opens a sentence has a
    capital anyway: it counts with `openers`, or where nothing in the sentence is in small letters."""
    text = _THOUSANDS.sub("", _CITED.sub(" ", text))
    found = [words(quoted) for quoted in _QUOTED.findall(text)]
    for sentence in _SENTENCE_END.split(text):
        found += _runs(sentence, openers=openers)
    return [entity for entity in found if entity]


def _runs(sentence: str, *, openers: bool) -> list[frozenset[str]]:
    """Capitalised words side by side, and numbers each by itself. A single letter is an initial, and says too little."""
    tokens = list(_WORD.finditer(sentence))
    openers = openers or all(token[0][0].isupper() or token[0][0].isdigit() for token in tokens)
    runs: list[list[str]] = []
    end = len(sentence)
    for at, token in enumerate(tokens):
        word = token[0]
        if word[0].isdigit():
            runs.append([word])
        elif word[0].isupper() and len(word) > 1 and (at > 0 or openers):
            if sentence[end : token.start()] in (" ", "-"):
                runs[-1].append(word)
            else:
                runs.append([word])
            end = token.end()
    found = [words(" ".join(run)) for run in runs]
    return [found[0] - _LEADS, *found[1:]] if found else []


def words_of(text: str) -> frozenset[str]:
    """The words of a text, a large number as one word however it is written."""
    return words(_THOUSANDS.sub("", text))
