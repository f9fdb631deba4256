"""What the page on engines does not run, it marks; its PostgreSQL is run by test_postgres."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, blocks_of, sections_of

PAGE = (DOCS / "engines.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(sections_of("engines.md"), re.split(r"^## .+$", PAGE, flags=re.MULTILINE)[1:], strict=True))


@pytest.mark.parametrize("section", [name for name, text in SECTIONS.items() if "```py\n" in text])
def test_what_is_not_run_is_python_and_says_so(section: str) -> None:
    assert SECTIONS[section].lstrip().startswith("*Not run here;")
    for code in re.findall(r"```py\n(.*?)```", SECTIONS[section], flags=re.DOTALL):
        compile(code, section, "exec")


def test_what_is_run_is_postgresql() -> None:
    assert {block.section for block in blocks_of("engines.md")} == {"PostgreSQL with pgvector"}
    assert {"OpenSearch", "Qdrant"} <= SECTIONS.keys()
