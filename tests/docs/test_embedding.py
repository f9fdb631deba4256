"""The page on embedding is run: every example after the page's first lines, alone, and it prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from graphs.retrying import PASSING_CODES, PASSING_NAMES, RETRY
from graphs.strategies import STRATEGIES
from graphs.studio import NEEDED, Settings
from tests.docs.pages import DOCS, Block, blocks_of, sections_of
from tests.docs.standin import Reader

PAGE = (DOCS / "embedding.md").read_text(encoding="utf-8")
FIRST, *EXAMPLES = blocks_of("embedding.md")
WITHOUT_PYTHON = {"Over HTTP", "In LangGraph's development server"}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the names that the page's first block makes, with a stand-in for the provider's model."""
    folder, names = tmp_path_factory.mktemp("page"), dict[str, Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("steper_agent.models.spec.open_model", lambda _spec: Reader())
        assert FIRST.run(names) == ""
    return folder, names


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_prints_what_the_page_says(
    example: Block, begun: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = begun
    monkeypatch.chdir(folder)
    assert example.prints is not None, "say on the page what it prints"
    assert example.run(dict(names)).rstrip() == example.prints.rstrip()


def test_every_way_has_an_example() -> None:
    assert set(sections_of("embedding.md")) - {example.section for example in EXAMPLES} == WITHOUT_PYTHON


def test_the_tables_say_what_the_code_does() -> None:
    ways = PAGE.split("## Ways to reason")[1].split("```")[0]
    assert re.findall(r"^\| `(\w+)` \|", ways, re.MULTILINE)[1:] == list(STRATEGIES)
    codes = re.search(r"^\| HTTP ([\d, ]+) \|", PAGE, re.MULTILINE)
    assert codes is not None
    assert {int(code) for code in codes[1].split(", ")} == PASSING_CODES
    assert all(f"`{name}`" in PAGE for name in PASSING_NAMES)
    assert (RETRY.max_attempts, RETRY.initial_interval, RETRY.backoff_factor) == (3, 0.5, 2.0)
    server = PAGE.split("## In LangGraph's development server")[1]
    assert all(f"`{name}`" in server for name in (*NEEDED, *Settings.model_fields))
