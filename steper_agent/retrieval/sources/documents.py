"""Documents as people write them, text, Markdown, HTML, PDF and DOCX, become a title and plain text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from steper_agent.retrieval.sources.lines import not_utf8
from steper_agent.retrieval.sources.office import read_docx, read_pdf
from steper_agent.retrieval.sources.streams import SUFFIXES as COMPRESSED
from steper_agent.retrieval.sources.streams import kind, read_whole
from steper_agent.retrieval.sources.web import read_html

LIMIT = 256 << 20
"""Bytes of one document, decompressed."""
VERBATIM = frozenset({".txt", ".md", ".markdown"})
"""Suffixes of files whose passages stand in them as they are, line for line."""
SUFFIXES = VERBATIM | {".html", ".htm", ".xhtml", ".pdf", ".docx"}
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)


class Document(NamedTuple):
    title: str
    parts: list[str]
    """Texts that share no passage: the pages of a PDF; elsewhere one. Lines end in a bare line feed."""


def is_document(path: Path) -> bool:
    return kind(path) in SUFFIXES


def read_document(path: Path) -> Document:
    """The document of one file; its title is its own, else the file's name.

    Raises:
        DataError: it is broken, encrypted, a bomb, longer than `LIMIT`, or not in the encoding it should be in.
        DependencyError: what reads this kind is not installed.
    """
    suffix, content = kind(path), read_whole(path, LIMIT)
    title = ""
    if suffix == ".pdf":
        title, parts = read_pdf(content, path)
    elif suffix == ".docx":
        title, text = read_docx(content, path)
        parts = [text]
    elif suffix in VERBATIM:
        text = _decoded(content, path)
        heading = _HEADING.search(text) if suffix != ".txt" else None
        title, parts = heading[1] if heading else "", [text]
    else:
        title, text = read_html(content, path)
        parts = [text]
    name = path.stem if path.suffix.lower() not in COMPRESSED else Path(path.stem).stem
    return Document(" ".join(title.split()) or name, parts)


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as bad:
        line = content.count(b"\n", 0, bad.start) + 1
        raise not_utf8(bad, f"{path}:{line}") from bad
