"""Text of others is shown, and never obeyed."""

from __future__ import annotations

import pytest

from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tui.app.chain import safe_markdown
from tui.app.text import MOST, inert, one_line, shown


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 200


@pytest.mark.parametrize("make", [shown, one_line, lambda text: inert(text).plain, safe_markdown])
def test_nothing_that_a_terminal_obeys_is_left(make) -> None:
    for text in HOSTILE:
        made = make(text)
        assert not FORBIDDEN & set(made), ascii(text[:60])
        made.encode()
        assert len(made) <= 2 * MOST + 100


def test_brackets_are_brackets() -> None:
    assert inert("[bold]x[/]").plain == "[bold]x[/]"
    assert inert("[bold]x[/]").spans == []


def test_what_is_cut_says_so() -> None:
    assert shown("x" * 50_000).endswith("… (50,000 characters)")
    assert shown("x" * 100) == "x" * 100
    assert one_line("a\nb\tc " * 1000, 10) == "a b c a b …"
