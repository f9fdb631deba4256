"""The text of a web page: its paragraphs apart, without scripts, styles and navigation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steper_agent.errors import DataError
from steper_agent.retrieval.sources.extras import load

_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w-]{1,40})|<\?xml[^>]{0,200}?encoding=["']([\w-]{1,40})""",
    re.IGNORECASE,
)
_DROPPED = ("script", "style", "nav", "noscript", "template", "iframe", "svg", "head")
_BLOCK = re.compile(
    r"h[1-6]|p|div|ul|ol|li|dl|dt|dd|table|caption|thead|tbody|tfoot|tr|pre|blockquote|hr|figure|figcaption|fieldset|address|"
    r"article|aside|details|summary|footer|header|main|section|body"
)


def read_html(content: bytes, path: Path) -> tuple[str, str]:
    """Title and text. The title is that of the page, else its first heading, else empty.

    Raises:
        DataError: the bytes are not in the encoding the page declares, or in UTF-8 where it declares none; its elements are
            nested without end.
        DependencyError: lxml is missing.
    """
    etree = load("lxml.etree", "HTML", path)
    # Decoded here: the parser would take what is not UTF-8 for Latin-1 and say nothing.
    text = _decoded(content, path)
    if not text.strip():
        return "", ""
    # Its lower limits would cut a long page short; beyond the higher ones it says so only in its log.
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    tree = etree.fromstring(text.encode("utf-8", "replace"), parser)
    if tree is None:  # Nothing but comments or declarations.
        return "", ""
    if fatal := next((entry for entry in parser.error_log if entry.level_name == "FATAL"), None):
        raise DataError(
            f"the page is broken: {fatal.message}", where=f"{path}:{fatal.line}", fix="mend it, or give its text"
        )
    title = tree.findtext(".//title") or "".join(next(tree.iter("h1"), etree.Element("h1")).itertext())
    etree.strip_elements(tree, *_DROPPED, with_tail=False)
    return title, _paragraphs("".join(_texts(tree, etree)))


def _texts(tree: Any, etree: Any) -> Iterator[str]:
    """The page's text in order, with a blank line where a block begins and ends."""
    for event, element in etree.iterwalk(tree, events=("start", "end")):
        if _BLOCK.fullmatch(element.tag):
            yield "\n\n"
        if event == "start":
            yield _flat(element, element.text)
        else:
            yield {"br": "\n", "td": "\t", "th": "\t"}.get(element.tag, "")
            yield _flat(element.getparent(), element.tail)


def _flat(inside: Any, text: str | None) -> str:
    """Line ends in a page's source are spaces, but for text that is laid out already."""
    if not text or inside is None or inside.tag == "pre":
        return text or ""
    return re.sub(r"\s+", " ", text)


def _paragraphs(text: str) -> str:
    lines = (re.sub(r"[^\S\n]*\t[^\S\n]*", "\t", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _decoded(content: bytes, path: Path) -> str:
    declared = _CHARSET.search(content[:4096])
    encoding = (declared[1] or declared[2]).decode() if declared else "utf-8"
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as bad:
        line = content.count(b"\n", 0, bad.start) + 1
        raise DataError(
            f"not {encoding.removesuffix('-sig').upper()} text: {bad.reason}",
            where=f"{path}:{line}",
            fix="convert the file to UTF-8, or declare its charset",
        ) from bad
    except (LookupError, UnicodeError) as bad:
        raise DataError(f"unknown charset {encoding!r}", where=path, fix="convert the file to UTF-8") from bad
