"""Conversations are kept: whole, private, found again, by several processes, whatever is killed and whatever is typed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from steper_agent.errors import ConfigError, DataError
from steper_agent.plain import plain
from steper_agent.records import Hit, Passage, Step
from tests.tui.app.exchanges import exchange, fill
from tests.tui.app.hostile import HOSTILE, PIECES
from tui.app import conversations as room
from tui.app.conversations import Conversations, default_path

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on demand" / "conversations.db"


@pytest.fixture
def store(path: Path) -> Iterator[Conversations]:
    store = Conversations(path)
    yield store
    store.close()


def test_what_is_added_is_read_in_its_order_also_by_the_next_process(store, path):
    told = [exchange(f"question {n}", f"answer {n}", steps=n) for n in range(4)]
    one = store.begin("")
    for each in told:
        one = store.add(one.id, each)
    store.close()
    again = Conversations(path)
    assert again.exchanges(one.id) == told
    assert again.page() == [one]
    assert one.exchanges == 4
    again.close()


def test_the_title_is_the_first_question_on_one_line_until_somebody_names_it(store):
    one = store.begin("  ")
    assert not one.title
    assert store.add(one.id, exchange("When\nwas \x1b[31mthis?")).title == "When was this?"
    assert store.add(one.id, exchange("And then?")).title == "When was this?"
    assert store.rename(one.id, "\tMy\n name ").title == "My name"
    assert store.add(one.id, exchange("And now?")).title == "My name"
    assert store.rename(one.id, " ").title == "When was this?"
    named = store.begin("named from the start")
    assert store.add(named.id, exchange()).title == "named from the start"


def test_a_page_is_a_slice_of_all_and_the_last_added_to_comes_first(store):
    made = [store.begin(f"c{n}") for n in range(7)]
    store.add(made[2].id, exchange())
    everything = [one.title for one in store.page(limit=100)]
    assert everything == ["c2", "c6", "c5", "c4", "c3", "c1", "c0"]
    assert [one.title for offset in range(0, 7, 3) for one in store.page("", offset, 3)] == everything
    assert store.page("", 7, 3) == []


def test_a_renamed_conversation_stays_where_it_is(store):
    first, second = store.begin("a"), store.begin("b")
    store.rename(first.id, "z")
    assert [one.id for one in store.page()] == [second.id, first.id]


@pytest.mark.parametrize("has_index", [True, False])
def test_every_word_of_a_search_is_found_in_titles_questions_answers_and_rationales(path, monkeypatch, has_index):
    if not has_index:
        monkeypatch.setattr(room, "_FTS5", "SELECT 1 WHERE 0")
    store = Conversations(path)
    one, other = store.begin("Holidays in Provence"), store.begin("")
    store.add(one.id, exchange("Who painted Olympia?", "Manet"))
    store.add(one.id, exchange("Where is 東京タワー?", "日本の東京"))
    store.add(other.id, exchange("When did Ångström die?", "1874"))
    for search in ("provence", "OLYMPIA", "manet", "rationale manet", "Holidays closer", "oly man", "東京", "タワー", "paint", " "):
        assert one.id in {found.id for found in store.page(search)}, search
    assert [found.id for found in store.page("1874")] == [other.id]
    assert store.count("manet 1874") == 0
    assert store.count("Text of passage") == 0, "passages are not searched"
    store.rename(one.id, "Winter")
    store.delete(other.id)
    assert [store.count(search) for search in ("provence", "winter", "1874", "")] == [0, 1, 0, 1]
    store.close()


def test_accents_are_no_hurdle(store):
    one = store.begin("Ångström café")
    assert [found.id for found in store.page("angstrom CAFE")] == [one.id]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.one_of(st.sampled_from('"\'*()[]{}:^+-~%_\\/;. ANDORNEAR\x00\ud800'), st.characters())))
def test_no_search_raises_and_a_word_finds_its_own_title(store, search):
    assert store.count(search) == len(store.page(search))
    one = store.begin(search)
    for word in one.title.split():
        if word.isascii():
            assert one.id in {found.id for found in store.page(word, limit=1000)}
    store.delete(one.id)


@pytest.mark.parametrize("text", PIECES, ids=range(len(PIECES)))
def test_hostile_text_is_kept_as_it_is_and_searched_for_without_harm(store, text):
    told = exchange(text, text, note=text, model=text, strategy=text)
    one = store.add(store.begin(text).id, told)
    one = store.rename(one.id, text)
    assert store.exchanges(one.id) == [told] or "\udfff\ud800" in text
    assert one.title == " ".join(plain(one.title).split())
    assert len(one.title) <= room.TITLE
    assert store.count(text) in (0, 1)
    assert json.loads(store.export(one.id, "json"))["exchanges"][0]["asked"] == text


def test_a_deleted_conversation_leaves_nothing_and_takes_nothing(store, path):
    one, other = store.begin("one"), store.add(store.begin("other").id, exchange("kept"))
    store.add(one.id, exchange("gone"))
    store.delete(one.id)
    store.delete(one.id)
    for act in (lambda: store.add(one.id, exchange()), lambda: store.exchanges(one.id), lambda: store.rename(one.id, "x"),
                lambda: store.export(one.id, "json")):  # fmt: skip
        with pytest.raises(DataError, match="no conversation"):
            act()
    with sqlite3.connect(path) as base:
        counts = [base.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("conversation", "exchange", "said", "words")]
        base.execute("INSERT INTO words(words) VALUES ('integrity-check')")
    base.close()
    assert counts == [1, 1, 2, 2]
    assert store.page() == [other]


def test_the_file_is_private_and_so_is_what_lies_beside_it(store, path):
    store.begin("x")
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert set(modes) == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert set(modes.values()) == {0o600}
    store.close()
    path.chmod(0o644)
    Conversations(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_lies_where_the_variable_or_the_desktop_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STEPER_CONVERSATIONS", raising=False)
    for data, expected in ((None, ".local/share"), ("relative", ".local/share"), (str(tmp_path / "data"), "data")):
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        if data:
            monkeypatch.setenv("XDG_DATA_HOME", data)
        assert default_path() == tmp_path / expected / "steper/conversations.db"
    monkeypatch.setenv("STEPER_CONVERSATIONS", "~/mine.db")
    assert default_path() == tmp_path / "mine.db"


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE bookmarks(url)")
    base.close()


def newer(path: Path) -> None:
    Conversations(path).close()
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version = 99")
    base.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [(foreign, "another program"), (newer, "newer StepER"), (lambda path: path.write_bytes(b"no database" * 200), "not a database"),
     (lambda path: path.mkdir(), "unable to open")],
    ids=["foreign", "newer", "no database", "folder"],
)  # fmt: skip
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path, make, says):
    path = tmp_path / "file.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(ConfigError, match=says) as told:
        Conversations(path)
    assert str(path) in str(told.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be kept here"):
        Conversations(tmp_path / "file" / "x" / "c.db")


def test_a_file_made_without_a_word_index_gets_one_and_one_with_it_is_not_written_without(path, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(room, "_FTS5", "SELECT 1 WHERE 0")
        store = Conversations(path)
        store.begin("Ångström")
        store.close()
    store = Conversations(path)
    assert store.count("angstrom") == 1
    store.close()
    monkeypatch.setattr(room, "_FTS5", "SELECT 1 WHERE 0")
    with pytest.raises(ConfigError, match="word index"):
        Conversations(path)


def test_a_damaged_record_is_told_with_its_place(store, path):
    one = store.add(store.begin("x").id, exchange())
    with sqlite3.connect(path) as base:
        base.execute("UPDATE exchange SET record = '{}'")
    base.close()
    with pytest.raises(DataError, match="not an exchange") as told:
        store.exchanges(one.id)
    assert "exchange 1" in told.value.where


WRITER = """
import sys
from pathlib import Path
from tests.tui.app.exchanges import exchange
from tui.app.conversations import Conversations
store = Conversations(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
one = store.begin(sys.argv[2])
for n in range(int(sys.argv[3])):
    store.add(one.id, exchange(f"{sys.argv[2]} {n}"))
    print(n, flush=True)
"""


def writer(path: Path, title: str, exchanges: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), title, str(exchanges)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_processes_may_make_the_file_and_write_to_it_at_once(path):
    writers = [writer(path, f"w{n}", 30) for n in range(3)]
    for one in writers:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in writers:
        one.communicate(timeout=60)
        assert one.returncode == 0
    store = Conversations(path)
    for found in store.page():
        assert [one.asked for one in store.exchanges(found.id)] == [f"{found.title} {n}" for n in range(30)]
    assert store.count() == 3
    store.close()


def test_a_killed_writer_loses_at_most_the_exchange_it_was_writing(path):
    one = writer(path, "killed", 100_000)
    assert one.stdin
    assert one.stdout
    one.stdin.write("go\n")
    one.stdin.flush()
    said = [one.stdout.readline() for _ in range(20)]
    os.kill(one.pid, signal.SIGKILL)
    rest, _ = one.communicate()
    written = len((said[-1] + rest).split()) - 1 + 19
    store = Conversations(path)
    (found,) = store.page()
    kept = store.exchanges(found.id)
    assert written <= len(kept) == found.exchanges <= written + 1
    assert [each.asked for each in kept] == [f"killed {n}" for n in range(len(kept))]
    store.close()


def test_threads_may_use_one_store(store):
    one = store.begin("shared")
    threads = [threading.Thread(target=lambda: [(store.add(one.id, exchange()), store.page("author")) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.page()[0].exchanges == len(store.exchanges(one.id)) == 40


def test_an_exchange_that_cannot_be_written_whole_is_not_written_at_all(store, monkeypatch):
    one = store.begin("x")
    monkeypatch.setattr(room, "_now", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.add(one.id, exchange())
    assert store.exchanges(one.id) == []
    assert store.page() == [one]


def test_among_ten_thousand_conversations_each_is_counted_and_found(path):
    fill(path, 10_000)
    store = Conversations(path)
    assert store.count() == 10_000
    assert [one.title for one in store.page("", 9_990, 10)] == [f"title {n}" for n in range(9, -1, -1)]
    assert [one.title for one in store.page("title 4321")] == ["title 4321"]
    store.delete(store.add(store.begin("").id, exchange()).id)
    store.close()


def text_of(markdown: str) -> str:
    return " ".join("".join(piece.content if piece.type == "text" else "\n" for piece in token.children or ()) for token in parsed(markdown))


def parsed(markdown: str) -> list:
    tokens = MarkdownIt("gfm-like").parse(markdown)
    return [token for token in tokens if token.type == "inline"] if markdown else []


def kinds(markdown: str) -> set[str]:
    tokens = MarkdownIt("gfm-like").parse(markdown)
    return {token.type for token in tokens} | {piece.type for token in tokens for piece in token.children or ()}


MARKUP = ("# heading", "- list", "1. list", "7) list", "+ x", "> quote", "```\ncode\n```", "    code", "~~~", "a\n===", "a\n---", "a\n:-:", "| a | b |\n|---|---|",
          "*a* _b_ ~~c~~ `d`", "[x](javascript:alert(1))", "![x](http://evil/x.png)", "<script>alert(1)</script>", "<http://evil.example>", "&lt;b&gt;",
          "http://evil.example www.evil.example WWW.evil.example HTTPS://x.example", "[x]: http://evil\n\n[x]", "a\\", "**", "<!-- x", "$x$", "2. a\n3. b", "***")  # fmt: skip


CASES = tuple(dict.fromkeys((*MARKUP, *(text[:2_000] for text in HOSTILE))))


@pytest.mark.parametrize("text", CASES, ids=range(len(CASES)))
def test_markdown_of_hostile_text_is_text(text):
    step = Step(query=text, rationale=text, hits=(Hit(passage=Passage(id="p", title=text, text=text), score=1.0),))
    calm = exchange("calm", "calm", steps=0)
    told = exchange(text, text, steps=0, note=text, model=text, strategy=text)
    told = told.model_copy(update={"trajectory": told.trajectory.model_copy(update={"steps": (step,)})})
    calm_step = Step(query="q", rationale="r", hits=(Hit(passage=Passage(id="p", title="t", text="t"), score=1.0),))
    calm = calm.model_copy(update={"note": "n", "trajectory": calm.trajectory.model_copy(update={"steps": (calm_step,)})})
    conversation = room._conversation(("id", text, "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00", 1))
    markdown, plainly = ("\n\n".join(room._markdown(conversation, [one])) for one in (told, calm))
    assert kinds(markdown) <= kinds(plainly) | {"hardbreak", "softbreak", "text_special"}
    expected = " ".join(plain(text).split())
    assert " ".join(text_of(markdown).split()).count(expected) >= 8 or not expected


def test_markdown_tells_the_chain_in_order(store):
    one = store.add(store.begin("").id, exchange("Who?", "Manet", steps=2, supported=False))
    markdown = store.export(one.id, "markdown")
    said = ["# Who?", "Who?", "### Step 1", "query 1", "Title 1.0", "rationale 1", "### Step 2", "query 2", "rationale 2", "### Answer", "Manet",
            "Model: base", "1.2 seconds", "no passage that was read states the answer"]  # fmt: skip
    at = 0
    for each in said:
        at = markdown.index(each, at) + len(each)


def test_one_exchange_by_itself_is_what_an_export_says_of_it(store):
    told = exchange("Who?", "Manet", note="why")
    one = store.add(store.begin("").id, told)
    alone = room.as_markdown(told)
    assert store.export(one.id, "markdown") == f"# Who?\n\n{alone.replace('## Question', '## Question 1')}"


def test_json_leaves_nothing_out(store):
    told = [exchange(f"q{n}", note="stopped") for n in range(3)]
    one = store.begin("")
    for each in told:
        one = store.add(one.id, each)
    whole = json.loads(store.export(one.id, "json"))
    assert whole == {"conversation": one.model_dump(mode="json"), "exchanges": [each.model_dump(mode="json") for each in told]}
