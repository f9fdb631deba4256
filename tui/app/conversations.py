"""Conversations on this machine's disk: one SQLite file, private to its owner, which any number of processes may use."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from steper_agent.errors import ConfigError, DataError
from steper_agent.plain import plain
from steper_agent.records import Conversation, Exchange, Step
from tui.app.text import escaped, quoted

VARIABLE = "STEPER_CONVERSATIONS"
MARK = 0x53745045
"""SQLite's `application_id` of our files: `StPE`."""
VERSION = 1
"""SQLite's `user_version`: of the tables below."""
PATIENCE = 10.0
"""Seconds to wait for another process that is writing."""
TITLE = 200
"""Characters of a title."""
SEARCH = 200
"""Characters of a search that are looked at."""

_TABLES = (
    """CREATE TABLE conversation(
        id TEXT PRIMARY KEY, title TEXT NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL, exchanges INTEGER NOT NULL)""",
    "CREATE INDEX conversation_updated ON conversation(updated)",
    """CREATE TABLE exchange(
        id INTEGER PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversation(id) ON DELETE CASCADE, record TEXT NOT NULL)""",
    "CREATE INDEX exchange_conversation ON exchange(conversation)",
    # What a search reads, apart from the records: they hold whole passages, which it must not wade through.
    """CREATE TABLE said(
        id INTEGER PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversation(id) ON DELETE CASCADE,
        is_title INTEGER NOT NULL, text TEXT NOT NULL)""",
    "CREATE INDEX said_conversation ON said(conversation)",
)
_INDEX = (
    """CREATE VIRTUAL TABLE words USING fts5(
        text, content='said', content_rowid='id', prefix='1 2 3', tokenize='unicode61 remove_diacritics 2')""",
    "CREATE TRIGGER said_in AFTER INSERT ON said BEGIN INSERT INTO words(rowid, text) VALUES (new.id, new.text); END",
    """CREATE TRIGGER said_out AFTER DELETE ON said BEGIN
        INSERT INTO words(words, rowid, text) VALUES ('delete', old.id, old.text); END""",
    "INSERT INTO words(words) VALUES ('rebuild')",
)
_FTS5 = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Of scripts that put no space between words, where the word index sees one long word."""
_COLUMNS = "id, title, created, updated, exchanges"


def default_path() -> Path:
    """`$STEPER_CONVERSATIONS`, or where this desktop keeps what programs know of a person."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    home = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG rules: a relative path is to be ignored.
    return (home if home.is_absolute() else Path.home() / ".local/share") / "steper" / "conversations.db"


class Conversations:
    """All of one person's conversations. Any thread may call any method; each takes milliseconds with 10,000 conversations.

    What a method wrote is on the disk when it returns, whole; killed before that, nothing of it is. Titles are kept as one
    line without anything a terminal obeys, records exactly as they came.

    Raises:
        ConfigError: the file cannot be made or opened, is not one of conversations, or a newer StepER wrote it.
        DataError: from any method, where there is no such conversation, the file is damaged, or the disk is full.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._lock = threading.RLock()
        try:
            _make_private(self.path)
            self._base = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._is_indexed = _prepare(self._base, self.path)
                if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                    self.path.chmod(0o600)
            except BaseException:
                self.close()
                raise
        except (OSError, sqlite3.Error) as bad:
            reason = bad.strerror if isinstance(bad, OSError) else bad
            raise ConfigError(f"conversations cannot be kept here: {reason}", where=self.path,
                              fix=f"check the path and its permissions, or use another file: {VARIABLE}=FILE") from bad

    def close(self) -> None:
        with self._lock:
            self._base.close()

    def begin(self, title: str = "") -> Conversation:
        """A new conversation without exchanges. With a blank title, its first question will be the title."""
        id, now = secrets.token_hex(8), _now()
        with self._writing() as base:
            base.execute(f"INSERT INTO conversation({_COLUMNS}) VALUES (?, '', ?, ?, 0)", (id, now, now))
            self._entitle(id, title)
            return self._of(id)

    def add(self, id: str, exchange: Exchange) -> Conversation:
        """Append to a conversation; returns it as it is now, the newest of all."""
        with self._writing() as base:
            before = self._of(id)
            base.execute("INSERT INTO exchange(conversation, record) VALUES (?, ?)", (id, json.dumps(exchange.model_dump(mode="json"))))
            base.execute("INSERT INTO said(conversation, is_title, text) VALUES (?, 0, ?)", (id, _said(exchange)))
            base.execute("UPDATE conversation SET exchanges = exchanges + 1, updated = ? WHERE id = ?", (_now(), id))
            if not before.title:
                self._entitle(id, exchange.asked)
            return self._of(id)

    def exchanges(self, id: str) -> list[Exchange]:
        """In the order they were added."""
        with self._reading() as base:
            self._of(id)
            rows = base.execute("SELECT id, record FROM exchange WHERE conversation = ? ORDER BY id", (id,)).fetchall()
        return [_read(record, where=f"{self.path}, exchange {number}") for number, record in rows]

    def page(self, search: str = "", offset: int = 0, limit: int = 100) -> list[Conversation]:
        """Those that `search` finds, the one last added to first.

        A conversation is found where every word of the search begins a word of its title, a question, an answer or a
        rationale, whatever the case and accents. There is no syntax: quotes, `*` and `AND` are text like any other.
        """
        where, words = self._finding(search)
        ask = f"SELECT {_COLUMNS} FROM conversation {where} ORDER BY updated DESC, rowid DESC LIMIT ? OFFSET ?"
        with self._reading() as base:
            return [_conversation(row) for row in base.execute(ask, (*words, limit, offset))]

    def count(self, search: str = "") -> int:
        """How many `page` would find in all."""
        where, words = self._finding(search)
        with self._reading() as base:
            return int(base.execute(f"SELECT count(*) FROM conversation {where}", words).fetchone()[0])

    def rename(self, id: str, title: str) -> Conversation:
        """A blank title gives the first question its place back."""
        with self._writing():
            self._of(id)
            asked = "" if _title(title) else next((one.asked for one in self.exchanges(id) if _title(one.asked)), "")
            self._entitle(id, asked or title)
            return self._of(id)

    def delete(self, id: str) -> None:
        """With all its exchanges; one that is not there is no error, for another process may have been quicker."""
        with self._writing() as base:
            base.execute("DELETE FROM conversation WHERE id = ?", (id,))

    def export(self, id: str, form: Literal["markdown", "json"]) -> str:
        """The whole conversation as text: Markdown to read, where all text of others is escaped; JSON with nothing left out."""
        with self._reading():
            conversation, exchanges = self._of(id), self.exchanges(id)
        if form == "markdown":
            return "\n\n".join(_markdown(conversation, exchanges)) + "\n"
        whole = {"conversation": conversation.model_dump(mode="json"),
                 "exchanges": [one.model_dump(mode="json") for one in exchanges]}
        return json.dumps(whole, indent=1, ensure_ascii=True) + "\n"

    def _of(self, id: str) -> Conversation:
        row = self._base.execute(f"SELECT {_COLUMNS} FROM conversation WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise DataError(f"there is no conversation {plain(id)!r}", where=self.path,
                            fix="it may have been deleted in another window: begin a new one")
        return _conversation(row)

    def _entitle(self, id: str, title: str) -> None:
        title = _title(title)
        self._base.execute("UPDATE conversation SET title = ? WHERE id = ?", (title, id))
        self._base.execute("DELETE FROM said WHERE conversation = ? AND is_title", (id,))
        self._base.execute("INSERT INTO said(conversation, is_title, text) VALUES (?, 1, ?)", (id, title))

    def _finding(self, search: str) -> tuple[str, list[str]]:
        """The WHERE clause of a search, and its parameters: one a word."""
        words = plain(search[:SEARCH]).split()
        indexed = [self._is_indexed and any(map(str.isalnum, word)) and not _UNSPACED.search(word) for word in words]
        clauses = ["id IN (SELECT rowid FROM words WHERE words MATCH ?)" if one else r"text LIKE ? ESCAPE '\'" for one in indexed]
        each = " INTERSECT ".join(f"SELECT conversation FROM said WHERE {clause}" for clause in clauses)
        return f"WHERE id IN ({each})" if words else "", [
            '"' + word.replace('"', '""') + '"*' if one else "%" + re.sub(r"([%_\\])", r"\\\1", word) + "%"
            for word, one in zip(words, indexed, strict=True)]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._base
            except sqlite3.Error as bad:
                raise DataError(f"the conversations cannot be read or written: {bad}", where=self.path,
                                fix="see that the disk has room and no other program holds the file; a damaged one can be "
                                    "moved away, and a new one begun") from bad

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        with self._reading() as base:
            base.execute("BEGIN IMMEDIATE")
            try:
                yield base
                base.commit()
            except BaseException:
                base.rollback()
                raise


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        # Not opened: closing it again would drop the locks that SQLite holds in this process on the same file.
        return


def _prepare(base: sqlite3.Connection, path: Path) -> bool:
    """Make the tables of a new file, or see that an old one is ours. Returns whether words are indexed."""
    base.execute("PRAGMA foreign_keys = ON")
    _check(base, path)
    _enter_wal(base)
    base.execute("BEGIN IMMEDIATE")
    try:
        tables = _check(base, path)
        has_index, can_index = "words" in tables, base.execute(_FTS5).fetchone() is not None
        if has_index and not can_index:
            raise ConfigError("the conversations have a word index, and this Python's SQLite cannot keep it", where=path,
                              fix=f"use a Python whose SQLite has FTS5, or another file: {VARIABLE}=FILE")
        for statement in (() if tables else _TABLES) + (() if has_index or not can_index else _INDEX):
            base.execute(statement)
        if not tables:
            base.execute(f"PRAGMA application_id = {MARK}")
            base.execute(f"PRAGMA user_version = {VERSION}")
        base.commit()
    except BaseException:
        base.rollback()
        raise
    return can_index


def _check(base: sqlite3.Connection, path: Path) -> set[str]:
    """The names of the tables: none in a new file."""
    (mark,), (version,) = base.execute("PRAGMA application_id").fetchone(), base.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if mark != MARK and (tables or mark or version):
        raise ConfigError("a database of another program", where=path, fix=f"use another file: {VARIABLE}=FILE")
    if version > VERSION:
        raise ConfigError(f"a newer StepER wrote these conversations (version {version}; this one knows {VERSION})", where=path,
                          fix=f"upgrade StepER, or use another file: {VARIABLE}=FILE")
    return tables


def _enter_wal(base: sqlite3.Connection) -> None:
    """Readers and a writer side by side. SQLite does not wait by itself where two processes do this at once."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _now() -> str:
    """Of fixed width, so that text sorts as time does."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _title(text: str) -> str:
    return " ".join(plain(text[: 4 * TITLE]).split())[:TITLE].rstrip()


def _said(exchange: Exchange) -> str:
    of = exchange.trajectory
    return plain("\n".join((exchange.asked, of.question.text, *(step.rationale for step in of.steps), of.answer)))


def _conversation(row: tuple[str, str, str, str, int]) -> Conversation:
    id, title, created, updated, exchanges = row
    return Conversation(id=id, title=title, created=datetime.fromisoformat(created), updated=datetime.fromisoformat(updated),
                        exchanges=exchanges)


def _read(record: str, *, where: str) -> Exchange:
    try:
        # Not pydantic's own reader: it refuses half a surrogate pair, which a model may well have written.
        return Exchange.model_validate(json.loads(record))
    except ValueError as bad:
        raise DataError(f"not an exchange: {str(bad).splitlines()[0]}", where=where,
                        fix="it was changed outside StepER, or by another version: delete the conversation") from bad


def as_markdown(exchange: Exchange) -> str:
    """One exchange by itself, as an export writes it."""
    return "\n\n".join(("## Question", *_markdown_exchange(exchange))) + "\n"


def _markdown(conversation: Conversation, exchanges: list[Exchange]) -> Iterator[str]:
    """Paragraph by paragraph."""
    yield f"# {escaped(conversation.title) or 'Conversation'}"
    for number, exchange in enumerate(exchanges, start=1):
        yield f"## Question {number}"
        yield from _markdown_exchange(exchange)


def _markdown_exchange(exchange: Exchange) -> Iterator[str]:
    of = exchange.trajectory
    yield quoted(exchange.asked)
    if of.question.text != exchange.asked:
        yield f"Asked as: {escaped(of.question.text)}"
    for count, step in enumerate(of.steps, start=1):
        yield f"### Step {count}"
        yield from _markdown_step(step)
    yield "### Answer"
    yield quoted(of.answer)
    yield _origin(exchange)


def _markdown_step(step: Step) -> Iterator[str]:
    yield f"Query: {escaped(step.query)}"
    hits = [f"{rank}. **{escaped(hit.passage.title) or 'untitled'}**: {escaped(hit.passage.text)}" for rank, hit in enumerate(step.hits, start=1)]
    yield "Passages:\n\n" + "\n".join(hits) if hits else "No new passage."
    yield f"Rationale: {escaped(step.rationale)}"


def _origin(exchange: Exchange) -> str:
    of = exchange.trajectory
    facts = [f"Model: {escaped(of.model)}", f"strategy: {escaped(of.strategy)}", f"{exchange.seconds:.1f} seconds",
             f"{exchange.time:%Y-%m-%d %H:%M} {exchange.time.tzname()}"]
    facts += ["step budget spent"] * (of.stop == "budget") + ["ended by an error"] * (of.stop == "error")
    facts += ["no passage that was read states the answer"] * (not exchange.supported)
    return "; ".join(facts) + "." + (f"\n\nNote: {escaped(exchange.note)}" if exchange.note else "")
