"""What is worth trying again: a fault that passes by itself. Anything a person must mend fails at once."""

from __future__ import annotations

from collections.abc import Mapping

from langgraph.types import RetryPolicy

from steper_agent.errors import StepERError
from steper_agent.web.retry_after import seconds_in

PASSING_CODES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP codes after which the same request may go through."""
PASSING_NAMES = frozenset({"APIConnectionError", "APITimeoutError", "RateLimitError", "InternalServerError"})
"""What providers' clients call it; they share no base class, and none of them is a dependency of ours."""


def is_passing(error: Exception) -> bool:
    """Whether the same work may succeed a moment later."""
    if isinstance(error, StepERError):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if (code := _code_of(error)) is not None:
        return code in PASSING_CODES
    return any(kind.__name__ in PASSING_NAMES or kind.__module__.startswith("httpx") and kind.__name__ == "TransportError"
               for kind in type(error).__mro__)


def is_rate_limit(error: Exception) -> bool:
    """Whether a provider says that it is asked too much."""
    if isinstance(error, StepERError):
        return False
    return _code_of(error) == 429 or any("RateLimitError" in kind.__name__ for kind in type(error).__mro__)


def retry_after(error: Exception) -> float | None:
    """Seconds a refusal asks to wait; None where it names no time that can be read."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    return seconds_in(headers)


def _code_of(error: Exception) -> int | None:
    code = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def _passes_in_place(error: Exception) -> bool:
    return is_passing(error) and not is_rate_limit(error)


RETRY = RetryPolicy(initial_interval=0.5, backoff_factor=2.0, max_interval=20.0, max_attempts=3, jitter=True, retry_on=is_passing)
PACED = RETRY._replace(retry_on=_passes_in_place)
"""For questions whose number under way is paced: a rate limit is not tried again where it met one, but by the pace."""
