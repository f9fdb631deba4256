"""Passages on disk: found by row and by id, whichever part they are in and whatever was deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent.errors import IndexFault
from steper_agent.records import Passage
from steper_agent.retrieval.intake import Changed, ShelfWriter, absorb, write_gone, write_ids
from steper_agent.retrieval.shelf import PASSAGES, Part, Shelf, hashed


def passages(n: int, first: int = 0) -> list[Passage]:
    return [Passage(id=f"{7 * row % 1009}", title=f"ü{row}", text="x\n" * (row % 5)) for row in range(first, first + n)]


def shelve(root: Path, name: str, added: list[Passage], before: Shelf) -> Part:
    (root / name).mkdir()
    with ShelfWriter(root / name) as writer:
        assert all(map(writer.add, added))
        write_ids(root / name, writer.close(), before)
    return Part(folder=name, rows=len(added))


def test_what_is_shelved_is_found_by_row_and_by_id(tmp_path: Path) -> None:
    added = passages(23)
    shelf = Shelf(tmp_path, [shelve(tmp_path, "a", added, Shelf(tmp_path))], ids="a")
    assert list(shelf) == added
    assert [shelf.find(passage.id) for passage in added] == list(range(23))
    assert shelf.find("nobody") is None
    assert shelf.may_have([hashed(added[3].id), hashed("nobody")]) == [True, False]
    with pytest.raises(IndexError):
        shelf[23]
    shelf.close()


def test_an_id_is_found_however_it_is_spelt_and_bytes_that_are_no_text_find_nothing(tmp_path: Path) -> None:
    added = [Passage(id="caf\u00e9", title="", text="x")]
    shelf = Shelf(tmp_path, [shelve(tmp_path, "a", added, Shelf(tmp_path))], ids="a")
    assert [shelf.find(name) for name in ("caf\u00e9", "cafe\u0301", "caf\udce9")] == [0, 0, None]


def test_parts_are_one_shelf_and_joining_them_changes_no_answer(tmp_path: Path) -> None:
    one, two, three = passages(50), passages(6, 50), passages(9, 56)
    parts = [shelve(tmp_path, "a", one, Shelf(tmp_path))]
    parts.append(shelve(tmp_path, "b", two, Shelf(tmp_path, parts, ids="a")))
    last = shelve(tmp_path, "c", three, Shelf(tmp_path, parts, ids="b"))
    shelf = Shelf(tmp_path, [*parts, last], ids="c")
    assert list(shelf) == [*one, *two, *three]
    assert [shelf.find(passage.id) for passage in shelf] == list(range(65))
    joined = absorb(tmp_path, parts, last, tmp_path / "c")
    assert joined == (parts[0], Part(folder="c/joined", rows=15)), (
        "the second part is shorter than the third, the first is not"
    )
    assert list(Shelf(tmp_path, joined, ids="c")) == [*one, *two, *three]


def test_a_deleted_passage_keeps_its_row_and_is_not_found(tmp_path: Path) -> None:
    added = passages(20)
    parts = [shelve(tmp_path, "a", added, Shelf(tmp_path))]
    write_gone(tmp_path / "a", [19, 3], Shelf(tmp_path, parts, ids="a"))
    shelf = Shelf(tmp_path, parts, ids="a", gone="a")
    assert (len(shelf), shelf.rows) == (18, 20)
    assert [row for row in range(20) if not shelf.is_live(row)] == [3, 19]
    assert shelf.find(added[3].id) is None
    assert shelf[3] == added[3]
    assert list(shelf) == [passage for row, passage in enumerate(added) if row not in (3, 19)]


def test_ids_whose_hashes_collide_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("shelf", "intake"):
        monkeypatch.setattr(f"steper_agent.retrieval.{module}.hashed", lambda name: len(name))
    added = passages(30)
    shelf = Shelf(tmp_path, [shelve(tmp_path, "a", added, Shelf(tmp_path))], ids="a")
    assert [shelf.find(passage.id) for passage in added] == list(range(30))


def test_a_second_run_must_bring_what_the_first_one_shelved(tmp_path: Path) -> None:
    added = passages(9)
    shelve(tmp_path, "a", added, Shelf(tmp_path))
    with (tmp_path / "a" / PASSAGES).open("ab") as file:
        file.write(b'{"id": "torn')
    with ShelfWriter(tmp_path / "a", kept=5) as writer:
        assert [writer.add(passage) for passage in added] == [False] * 5 + [True] * 4
        write_ids(tmp_path / "a", writer.close(), Shelf(tmp_path))
    assert list(Shelf(tmp_path, [Part(folder="a", rows=9)], ids="a")) == added
    with ShelfWriter(tmp_path / "a", kept=5) as writer, pytest.raises(Changed):
        writer.add(added[1])
    with ShelfWriter(tmp_path / "a", kept=5) as writer:
        writer.add(added[0])
        with pytest.raises(Changed):
            writer.close()


def test_a_shelf_that_is_not_what_was_said_is_refused(tmp_path: Path) -> None:
    part = shelve(tmp_path, "a", passages(5), Shelf(tmp_path))
    with pytest.raises(IndexFault, match="holds 5 rows, the manifest says 6"):
        Shelf(tmp_path, [Part(folder="a", rows=6)], ids="a")
    with pytest.raises(IndexFault, match="cannot be read"):
        Shelf(tmp_path, [part], ids="b")
    text = (tmp_path / "a" / PASSAGES).read_bytes()
    (tmp_path / "a" / PASSAGES).write_bytes(text.replace(b'"title"', b'"tixle"'))
    with pytest.raises(IndexFault, match="not a passage") as bad:
        Shelf(tmp_path, [part], ids="a")[2]
    assert str(bad.value.where).endswith(f"{PASSAGES}:3")
