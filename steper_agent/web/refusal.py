"""What an HTTP server of ours says where it gives no answer. Each server puts it in its own clients' error object."""

from __future__ import annotations


class Refusal(Exception):
    """A request that gets no answer, and why. A client's to read, so it never quotes a path, a key or a traceback."""

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, message, code)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        """The field of the request that is to blame, dotted."""
        self.headers = headers or {}


def bad_request(message: str, *, code: str = "invalid_value", param: str | None = None) -> Refusal:
    return Refusal(400, message, code=code, param=param)
