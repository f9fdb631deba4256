"""One spelling for one thing: text in Unicode NFC, ids as text, digests as ids of passages that came without."""

from __future__ import annotations

import unicodedata
from typing import Any

from steper_agent.durable import digest
from steper_agent.errors import DataError


def clean(text: str) -> str:
    """Unicode NFC; a surrogate without its partner, which no file can hold, becomes a question mark."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def content_id(title: str, text: str) -> str:
    """The id of a passage that came without one: the same content has the same id everywhere."""
    return f"p{digest([clean(title), clean(text)])[:20]}"


def identifier(value: dict[str, Any], where: object) -> str:
    """The id of a record, a number included."""
    found = value.get("id", value.get("_id"))
    if isinstance(found, bool) or not isinstance(found, str | int) or not (name := clean(str(found))).strip():
        raise DataError("no id here", where=where, fix='give every record an "id"')
    return name
