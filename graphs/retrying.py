"""What is worth trying again: a fault that passes by itself. Anything a person must mend fails at once."""

from __future__ import annotations

from langgraph.types import RetryPolicy

from steper_agent.errors import StepERError

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
    code = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(code, int):
        return code in PASSING_CODES
    return any(kind.__name__ in PASSING_NAMES or kind.__module__.startswith("httpx") and kind.__name__ == "TransportError"
               for kind in type(error).__mro__)


RETRY = RetryPolicy(initial_interval=0.5, backoff_factor=2.0, max_interval=20.0, max_attempts=3, jitter=True, retry_on=is_passing)
