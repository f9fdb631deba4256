"""Text of others is shown, and never obeyed."""

from __future__ import annotations

import pytest

from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tui.app.chain import safe_markdown
from tui.app.field import on_one_line
from tui.app.text import MOST, escaped, inert, one_line, pasted, quoted, shown


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 200


@pytest.mark.parametrize("make", [shown, one_line, lambda text: inert(text).plain, safe_markdown, on_one_line])
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


def test_a_paste_is_as_long_as_what_is_left_of_it_and_pasting_it_again_changes_nothing() -> None:
    for text in HOSTILE:
        clean = pasted(text)
        assert pasted(clean) == clean
        assert not FORBIDDEN & set(clean)
    assert pasted("a\rb\r\nc\u2028d\te") == "a\nb\nc\nd    e"
    assert pasted("\x1b[200~می\u200cخواهم\u202e👩\u200d🔬\x00") == "می\u200cخواهم👩\u200d🔬"


def test_a_quotation_keeps_lines_and_one_line_is_one() -> None:
    assert quoted("# a\n*b*") == "> \\# a  \n> \\*b\\*  "
    assert escaped("# a\n*b*") == "\\# a \\*b\\*"
