"""The one error people meet: it says what is wrong, where, and how to fix it. Its class says who must act."""

from __future__ import annotations

from functools import partial

from steper_agent.plain import plain


class StepERError(Exception):
    """Base of every error a person can cause or cure; the command line prints it and exits with code 2."""

    def __init__(self, what: str, *, where: object, fix: str) -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  fix:   {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Python makes an exception that comes from another process again by position, and two of these go by name.
        return partial(type(self), self.what, where=str(self.where), fix=self.fix), ()


class ConfigError(StepERError):
    """A setting is unknown, missing or of the wrong type."""


class DataError(StepERError):
    """A file of questions, passages or records is missing, empty or malformed."""


class IndexFault(StepERError):
    """An index folder is missing, damaged, or belongs to another corpus."""


class SearchError(StepERError):
    """A search was not answered: it took too long, or the server that it was sent to is away or refuses it."""


class ModelError(StepERError):
    """A model spec, model folder or model call is not usable."""


class AdapterError(StepERError):
    """A student's adapter is damaged, unsafe, or was made for another base."""


class JournalError(StepERError):
    """A journal line is not what a journal holds."""


class DependencyError(StepERError):
    """An optional package is needed and missing."""


def told(error: StepERError | OSError) -> str:
    """What a person reads of an error, the operating system's (a file in the way, a full disk) included, in plain text whoever's
    words it quotes.

    Raises:
        OSError: this one, where it did not come from the operating system: a library's, and nothing a person can mend.
    """
    if isinstance(error, OSError):
        if error.strerror is None:
            raise error
        where, fix = error.filename or "this machine", "check the path, its permissions and the room on the disk"
        return plain(f"{type(error).__name__}: {error.strerror}\n  where: {where}\n  fix:   {fix}")
    return plain(f"{type(error).__name__}: {error}")
