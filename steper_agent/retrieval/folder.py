"""Passages out of a folder of plain text and Markdown: whole paragraphs, packed up to a stated size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from steper_agent.errors import DataError
from steper_agent.records import Passage

SUFFIXES = frozenset({".txt", ".md", ".markdown"})
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)


def text_files(source: Path) -> list[Path]:
    """The text files below a folder, in order of path, hidden ones left out; a text file stands for itself."""
    if source.is_file():
        return [source]
    found = (path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(source).parts))


def passages(path: Path, root: Path, chunk_chars: int) -> Iterator[Passage]:
    """The passages of one file; ids are its path below `root` and a running number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as bad:
        raise DataError(f"not UTF-8 text: {bad.reason}", where=path, fix="convert the file to UTF-8") from bad
    name = path.relative_to(root).as_posix()
    heading = _HEADING.search(text) if path.suffix.lower() != ".txt" else None
    title = heading[1] if heading else path.stem
    for number, chunk in enumerate(chunks(text, chunk_chars)):
        yield Passage(id=f"{name}#{number}", title=title, text=chunk)


def chunks(text: str, size: int) -> Iterator[str]:
    """Paragraphs packed in order into pieces of at most `size` characters; only a longer paragraph is split."""
    pack = ""
    for paragraph in re.split(r"\n[^\S\n]*\n", text.replace("\r\n", "\n")):
        for piece in _pieces(paragraph.strip(), size):
            if pack and len(pack) + 2 + len(piece) > size:
                yield pack
                pack = piece
            else:
                pack = f"{pack}\n\n{piece}" if pack else piece
    if pack:
        yield pack


def _pieces(paragraph: str, size: int) -> Iterator[str]:
    """A paragraph cut at the last sentence end that fits, else at the last space, else where it must be."""
    while len(paragraph) > size:
        window = paragraph[: size + 1]
        ends = [found.end() for found in re.finditer(r"[.!?]\s", window)]
        cut = ends[-1] if ends else window.rfind(" ")
        cut = min(cut, size) if cut > 0 else size
        yield paragraph[:cut].strip()
        paragraph = paragraph[cut:].strip()
    if paragraph:
        yield paragraph
