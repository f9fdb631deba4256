"""Records out of files: the same from every format and compression, and one clear error for each way to be broken."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from steper_agent.errors import DataError
from steper_agent.retrieval.sources import files, streams
from steper_agent.retrieval.sources.files import rows
from steper_agent.retrieval.sources.lines import LINE_LIMIT
from steper_agent.retrieval.sources.tally import Tally
from tests.steper_agent.retrieval.shelves import PASSAGES, write_json
from tests.steper_agent.retrieval.sources.made import COMPRESS, FORMATS, FORMS, lines_of, parquet_of, table_of, write


@pytest.mark.parametrize(("form", "compress"), FORMS)
def test_every_format_gives_the_same_records_compressed_or_not(form: str, compress: str, tmp_path: Path) -> None:
    path = write(tmp_path / "data", COMPRESS[compress](FORMATS[form]()))
    assert [row.value for row in rows(path)] == PASSAGES


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("lines", (1, 2, 3, 4)),
        ("array", (2, 7, 12, 17)),
        ("csv", (2, 3, 4, 5)),
        ("tsv", (2, 3, 4, 5)),
        ("parquet", (1, 2, 3, 4)),
    ],
)
def test_a_record_is_named_by_the_line_it_starts_on(form: str, lines: tuple[int, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "data", FORMATS[form]())
    assert tuple(row.line for row in rows(path)) == lines
    assert [str(row) for row in rows(path)] == [f"{path}:{line}" for line in lines]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_a_json_array_reads_the_same_whatever_the_size_of_a_read(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    values = [{"text": 'a ] } \\ " ,', "n": n, "deep": [[{}], "ü"]} for n in range(5)]
    path = write_json(tmp_path / "x.json", values)
    assert [row.value for row in rows(path)] == values
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(lines[row.line - 1].strip() == "{" for row in rows(path))


@pytest.mark.parametrize("compress", COMPRESS)
@pytest.mark.parametrize("between", [b"", b"\n", b" \r\n\n" * 99, b"\n\xef\xbb\xbf"])
def test_json_arrays_that_were_joined_are_all_read(
    between: bytes, compress: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", 64)
    pieces = (FORMATS["array"]() + between, b"[]" + FORMATS["array"](), b"\n")
    found = list(rows(write(tmp_path / "all", b"".join(map(COMPRESS[compress], pieces)))))
    assert [row.value for row in found] == [*PASSAGES, *PASSAGES]
    lines = b"".join(pieces).split(b"\n")
    assert {lines[row.line - 1].strip() for row in found} == {b"{"}


def test_a_table_keeps_line_ends_and_quotes_within_its_cells(tmp_path: Path) -> None:
    values = [
        {"id": "1", "title": 'The "One"', "text": "a\nb, c\n\nd"},
        {"id": "2", "title": "", "text": "x" * 200_000},
    ]
    for separator in ",\t":
        path = write(tmp_path / "x", table_of(values, separator))
        assert [row.value for row in rows(path)] == values
        assert [row.line for row in rows(path)] == [2, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines_of(PASSAGES)[:-20], r"broken JSON: Unterminated string[^$]*data:4\n"),
        (b'{"id": "a"} x\n', r"something follows[^$]*data:1\n"),
        (b'{"n": ' + b"9" * 5000 + b"}", r"broken JSON[^$]*data:1\n"),
        (b'{"n": ' + b"[" * 200_000, r"broken JSON[^$]*data:1\n"),
        (b'{"id": "a"}\n{"id": "\xff"}', r"not UTF-8[^$]*data:2\n"),
        (b'[{"id": "a"},\n\n{"id": "\xff"}]', r"not UTF-8[^$]*data:3\n"),
        (b'[{"id": "a"},\n\n[' + b"[" * 200_000, r"broken JSON[^$]*data:3\n"),
        (b'[{"id": "a"}]\n\n{"id": "b"}\n', r"broken JSON: something follows the array[^$]*data:3\n"),
        (b'[{"id": "a"}], [{"id": "b"}]', r"broken JSON: something follows the array[^$]*data:1\n"),
        ('{"id": "a"}'.encode("utf-16"), r"not UTF-8[^$]*data:1\n"),
        (b"\x00\x01\x02", r"not a format we read[^$]*data:1\n"),
        (b"some prose, and more\n", r"not a format we read[^$]*data:1\n"),
        (b'id,title,text\n1,t,"x', r"broken table[^$]*data:2\n"),
        (b'id,title,text\n1,t,"x"y\n', r"broken table[^$]*data:2\n"),
        (b"id,title,text\n1,t,x\n2,t\n", r"2 cells for the columns id, title, text[^$]*data:3\n"),
        (b"text,text\nx,y\n", r"two columns mean the same: text[^$]*data:1\n"),
        (b"id,text\n1,x\n2,\xff\n", r"not UTF-8[^$]*data:3\n"),
        (FORMATS["parquet"]()[:-9], r"torn or damaged[^$]*after row 0\n"),
        (FORMATS["parquet"]()[:40] + bytes(60) + FORMATS["parquet"]()[100:], r"torn or damaged[^$]*after row 0\n"),
    ],
)
def test_a_broken_file_is_one_clear_error_with_its_place(content: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "data", content)
    with pytest.raises(DataError, match=message):
        list(rows(path))


@pytest.mark.parametrize("begins", [b'{"id": "a", "text": "', b'[{"id": "a", "text": "', b"id,title,text\na,t,"])
def test_a_line_of_a_hundred_megabytes_is_one_error_and_little_memory(begins: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "data", begins)
    with path.open("ab") as file:
        for _ in range(100):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than 16 MiB") as caught:
            list(rows(path))
        assert tracemalloc.get_traced_memory()[1] < 4 * LINE_LIMIT
    finally:
        tracemalloc.stop()
    assert str(caught.value.where) == f"{path}:{2 if begins.startswith(b'id') else 1}"


def test_what_is_bad_is_counted_and_left_out_where_the_tally_says_so(tmp_path: Path) -> None:
    bad = [
        b'{"id": "b", "te',
        b'{"text": "\xff"}',
        b"[1]",
        b'{"x": "' + b"y" * (LINE_LIMIT + 9) + b'"}',
        b'{"id": "e", "te',
    ]
    path = write(tmp_path / "data", b'{"id": "a"}\n' + b"\n".join(bad) + b'\n{"id": "z"}\n')
    tally = Tally(on_bad="skip")
    assert [row.value["id"] for row in rows(path, tally)] == ["a", "z"]
    counted = {reason: (one.count, one.first) for reason, one in tally.skipped.items()}
    assert counted == {
        "broken JSON": (2, f"{path}:2"),
        "not UTF-8 text": (1, f"{path}:3"),
        "expected a JSON object, found list": (1, f"{path}:4"),
        "a line of more than 16 MiB": (1, f"{path}:5"),
    }


def test_rows_of_a_table_are_left_out_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path / "data", b'id,text\n1,a\n2\n3,"b"c\n4,d\n\n5,e\n')
    tally = Tally(on_bad="skip")
    assert [row.value["id"] for row in rows(path, tally)] == ["1", "4", "5"]
    assert sum(one.count for one in tally.skipped.values()) == 2


def test_a_parquet_file_that_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FLOOR", 1 << 10)
    path = write(tmp_path / "data", parquet_of([{"id": "1", "title": "", "text": "x" * (4 << 20)}], "zstd"))
    with pytest.raises(DataError, match="expands to more"):
        list(rows(path))


def test_a_column_nobody_asks_for_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "data", parquet_of([{"_id": "1", "passage": "x", "vector": [0.5] * 9}]))
    assert [json.dumps(row.value) for row in rows(path)] == ['{"id": "1", "text": "x"}']
