"""What crosses the door, in OpenAI's words. Requests are read tolerantly: fields we do not know are ignored, save under
our own `steper`. What we would have to ignore at the client's expense (pictures, several answers) is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from graphs.state import TurnState
from steper_agent.records import Record
from steper_agent.web.refusal import bad_request

Count = Annotated[int, Field(ge=1, strict=True)]


class Lenient(BaseModel):
    """Part of a request; other people's clients send fields of every age."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Part(Lenient):
    type: str
    text: str = ""


def _as_parts(content: Any) -> Any:
    if content is None:
        return ()
    return ({"type": "text", "text": content},) if isinstance(content, str) else content


class Message(Lenient):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[tuple[Part, ...], BeforeValidator(_as_parts)] = ()

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if part.type == "text")


class StreamOptions(Lenient):
    include_usage: bool | None = None


class Overrides(Record):
    """What a request may change of a run, within the server's limits. Closed: a typo is told, not swallowed."""

    strategy: str | None = None
    k: Count | None = None
    steps: Count | None = None


class ChatRequest(Lenient):
    model: str
    messages: tuple[Message, ...] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    steper: Overrides = Overrides()

    @property
    def wants_usage(self) -> bool:
        """A stream tells its usage only when it is asked to."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Found(Record):
    """A passage that a rationale rests on."""

    id: str
    title: str
    score: float


class Reasoned(Record):
    query: str
    rationale: str
    passages: tuple[Found, ...]


class Account(Record):
    """The extension `steper` of an answer: how it came about."""

    question: str
    """Standing alone: a follow-up question as it was rewritten."""
    stop: str
    """`answered`, or `budget` where the steps were spent."""
    supported: bool
    """Whether a passage that was read states the answer."""
    model: str
    """Version of the model that served the whole run."""
    steps: tuple[Reasoned, ...]


class Spent(Record):
    """Tokens, over all calls of the model, as far as it tells them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


def read_request(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        Refusal: it is no chat request, or asks for what cannot be given.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as bad:
        first = bad.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        unknown = first["type"] == "extra_forbidden"
        message = f"only {', '.join(Overrides.model_fields)} can be set under `steper`" if unknown else first["msg"]
        raise bad_request(f"{param}: {message}" if param else message, param=param) from bad
    if request.n not in (None, 1):
        raise bad_request("a question gets one answer: leave `n` out, or 1", param="n")
    return request


def conversation_of(request: ChatRequest) -> tuple[str, list[TurnState]]:
    """The question, which is the last thing the user said, and what user and assistant said before it.

    Raises:
        Refusal: nothing was asked, or not in words.
    """
    last = max((at for at, message in enumerate(request.messages) if message.role == "user"), default=None)
    if last is None:
        raise bad_request("nothing is asked: there is no message of the user", param="messages")
    spoken = [(at, m) for at, m in enumerate(request.messages[: last + 1]) if m.role in ("user", "assistant")]
    for at, message in spoken:
        odd = next((part.type for part in message.content if part.type != "text"), None)
        if odd is not None and message.role == "user":
            raise bad_request(f"only text can be read, not `{odd}`", code="unsupported_content", param=f"messages.{at}.content")
    question = request.messages[last].text.strip()
    if not question:
        raise bad_request("the question is blank", param=f"messages.{last}.content")
    history = [TurnState(role=message.role, content=message.text) for _, message in spoken[:-1] if message.text.strip()]
    return question, history
