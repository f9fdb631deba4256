"""A page's Python, block by block, with what the page says it prints."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<prints>.*?)^```\n)?", flags=re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## (?P<title>.+)$", flags=re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: Path
    section: str
    """Heading of the second level; empty before the first."""
    line: int
    """Of the page, where the code begins."""
    code: str
    prints: str | None
    """None where the page does not say."""

    def run(self, names: dict[str, Any], instead: tuple[str, str] = ("", "")) -> str:
        """What it printed, with one text on the page `instead` of another. A traceback shows the page's own line."""
        code = compile("\n" * (self.line - 1) + self.code.replace(*instead, 1), str(self.page), "exec", dont_inherit=True)
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        return printed.getvalue()

    def __str__(self) -> str:
        return f"{self.section}, line {self.line}"


def blocks_of(name: str) -> list[Block]:
    """All of `docs/NAME`, in order."""
    page = DOCS / name
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        before = text[: fence.start("code")]
        found.append(Block(page, (HEADING.findall(before) or [""])[-1], before.count("\n") + 1, fence["code"], fence["prints"]))
    assert len(found) == text.count("```python\n")
    return found


def sections_of(name: str) -> list[str]:
    """Headings of the second level."""
    return HEADING.findall((DOCS / name).read_text(encoding="utf-8"))
