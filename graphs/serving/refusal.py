"""What the door says where it gives no answer: an HTTP status and OpenAI's error object, so that any client can read it."""

from __future__ import annotations

from typing import Any


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

    @property
    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def bad_request(message: str, *, code: str = "invalid_value", param: str | None = None) -> Refusal:
    return Refusal(400, message, code=code, param=param)
