"""What others may have written: markup, escapes, what reorders, what hides, what is too long, what is no text."""

from __future__ import annotations

PIECES = (
    "[bold red]x[/]", "[/]", "[@click=app.quit]quit[/]", "[link=file:///etc/passwd]x[/link]", "[[x]]", "\\[x]", "[", "]", "[red",
    "$primary", "{x}", "%s", "<script>alert(1)</script>", "<!-- x -->", "![x](http://evil.example/x.png)", "[x](javascript:alert(1))",
    "\x1b[31mred", "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]52;c;aGVsbG8=\x07", "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "\x1bPq#0\x1b\\", "\x9b31m", "\x9d0;t\x9c", "\x90q\x9c", "\x1b[?1049h", "\x1b[6n", "\x07\x07", "\x08\x08\x08", "a\rb", "\x00", "\x7f",
    "\u202egnp.exe", "\u2066x\u2069", "\u200fx", "\u061cx", "pass\u200bword", "\ufeffx", "\u2060x", "\u00adx", "\U000e0041x", "x\ufe0f",
    "\ud800", "\udfff\ud800", "\ufffe", "e\u0301\u0301\u0301\u0301", "👨\u200d👩\u200d👧", "日本語" * 20, "ｆｕｌｌ", "\u2028\u2029", "\x85", "\t\t\t",
    "a\n" * 500, "x" * 100_000, "wide " * 20_000,
)  # fmt: skip
HOSTILE = tuple(dict.fromkeys((*PIECES, *(f"before {piece} after" for piece in PIECES), *(f"{piece}{piece}" for piece in PIECES),
                               *(f"# {piece}\n- {piece}\n`{piece}`" for piece in PIECES[:50]), "y" * 1_000_000, "long " * 200_000)))  # fmt: skip
"""More than two hundred, lines of a megabyte among them."""
FORBIDDEN = frozenset(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x200B, 0x2060, 0xFEFF, 0xAD, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])) - {"\n"}
"""What must never reach the screen."""
