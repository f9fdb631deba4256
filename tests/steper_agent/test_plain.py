"""Text from outside cannot drive the terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.plain import plain


@settings(deadline=None)
@given(st.text(alphabet=[*map(chr, range(256)), *"\u061c\u200f\u202e\u2066\ud800é漢"]))
def test_nothing_that_controls_is_left_and_cleaning_twice_is_cleaning_once(text: str) -> None:
    cleaned = plain(text)
    assert not [sign for sign in cleaned if unicodedata.category(sign) in {"Cc", "Cs"} and sign not in "\n\t"]
    assert plain(cleaned) == cleaned


@settings(deadline=None)
@given(st.text(alphabet="aé漢🙂e\u0301 \n\t[]/;m0"))
def test_ordinary_text_is_untouched(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1b]never closed", "never closed"),
        ("a\r\nb\rc\x08\x7f", "a\nbc"),
        ("a\u202eb\u2066c\u200f", "abc"),
        ("tab\tstays\n", "tab\tstays\n"),
        ("\ud800", "\ufffd"),
    ],
)
def test_escapes_are_removed_whole(text: str, expected: str) -> None:
    assert plain(text) == expected
