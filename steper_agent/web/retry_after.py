"""How long a server that refuses for the moment asks to wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime


def seconds_in(headers: Mapping[str, str]) -> float | None:
    """Seconds by a `Retry-After` (seconds or a date) or `retry-after-ms` header; None where neither can be read."""
    given = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(given[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(given["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return None
