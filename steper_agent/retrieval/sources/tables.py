"""Rows of tables as records: text with a header and separators (CSV, TSV), or Parquet, read in batches."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from steper_agent.errors import DataError
from steper_agent.retrieval.sources.extras import load
from steper_agent.retrieval.sources.lines import LINE_LIMIT, lines
from steper_agent.retrieval.sources.streams import BUFFER, bomb, expansion_limit, kind
from steper_agent.retrieval.sources.tally import Tally

PARQUET = b"PAR1"
BATCH = 1024
"""Rows of Parquet held at once."""
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_ALIASES = {"_id": "id", "contents": "text", "passage": "text"}
_OF_PASSAGES = {"id", "title", "text"}


def separator(head: bytes, path: Path) -> str:
    """What separates the columns of a file that begins like this; nothing if it is not such a table."""
    if kind(path) in _SEPARATORS:
        return _SEPARATORS[kind(path)]
    first = head.partition(b"\n")[0].decode(errors="replace")
    found = "\t" if "\t" in first else ","
    known = {name.strip(' "\r') for name in first.lower().split(found)} & {"text", "question", *_ALIASES}
    return found if known else ""


def text_rows(
    stream: BufferedReader[Any], path: Path, separator: str, tally: Tally
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows below the header, each with the line it starts on.

    Raises:
        DataError: the header is unusable, or the text not UTF-8; and a row is broken and the tally does not skip.
    """
    # A passage may be longer than the 131,072 characters the module allows; the setting is the whole process's.
    csv.field_size_limit(LINE_LIMIT)
    reader = csv.reader((text for _, text in lines(stream, path, Tally())), delimiter=separator, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as bad:
            tally.refuse(
                DataError(f"broken table: {bad}", where=f"{path}:{line}", fix='write "" for a " within quotes')
            )
            continue
        if cells is None:
            return
        if not header:
            header = _columns(cells, path)
        elif len(cells) == len(header):
            yield line, _record(header, cells, line)
        elif cells:
            tally.refuse(
                DataError(
                    f"a row and the header differ in length: {len(cells)} cells for the columns {', '.join(header)}",
                    where=f"{path}:{line}",
                    fix="mend or remove this row; a download cut short ends like this",
                )
            )


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a Parquet file, numbered from 1. Of a file without questions only the columns of passages are read.

    Raises:
        DataError: the file is torn, damaged or a bomb.
        DependencyError: pyarrow is missing.
    """
    arrow, parquet = load("pyarrow", "Parquet", path), load("pyarrow.parquet", "Parquet", path)
    number = 0
    try:
        # Otherwise it holds whole row groups: a million rows, often all there are.
        with parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            meta, limit = file.metadata, expansion_limit(path.stat().st_size)
            if sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups)) > limit:
                raise bomb(path, limit)
            names = file.schema_arrow.names
            header = _columns(names, path)
            # Vectors and the like may be most of the file.
            wanted = [
                name for name, known in zip(names, header, strict=True) if "question" in header or known in _OF_PASSAGES
            ]
            header = [known for name, known in zip(names, header, strict=True) if name in wanted]
            for batch in file.iter_batches(BATCH, columns=wanted):
                for value in batch.to_pylist():
                    number += 1
                    yield number, _record(header, list(value.values()), number)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as bad:
        raise DataError(
            f"the Parquet file is torn or damaged: {bad}", where=f"{path}, after row {number}", fix="download it again"
        ) from bad


def _columns(names: Sequence[str], path: Path) -> list[str]:
    lower = [name.strip().lower() for name in names]
    header = [_ALIASES[name] if name in _ALIASES and _ALIASES[name] not in lower else name for name in lower]
    if twice := {name for name in header if header.count(name) > 1}:
        raise DataError(
            f"two columns mean the same: {', '.join(sorted(twice))}, of {', '.join(names)}",
            where=f"{path}:1",
            fix="leave one of them",
        )
    if not {"text", "question"} & set(header):
        raise DataError(
            f"no column of text among {', '.join(names)}",
            where=f"{path}:1",
            fix="name the columns id, title and text; of questions: question and answer",
        )
    return header


def _record(header: list[str], cells: list[Any], number: int) -> dict[str, Any]:
    record = dict(zip(header, cells, strict=True))
    if "question" in record:
        record.setdefault("id", str(number))
        if isinstance(listed := record.get("answers"), str) and listed.startswith("["):
            try:
                record["answers"] = json.loads(listed)
            except ValueError:
                record["answers"] = [listed]
    return record
