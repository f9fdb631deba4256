"""Documents and compressed files made on the spot, and the same passages in every format."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import docx
import pyarrow
import pyarrow.parquet
import zstandard

from tests.steper_agent.retrieval.shelves import PASSAGES

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


def lines_of(values: Iterable[Any]) -> bytes:
    return "".join(f"{json.dumps(value, ensure_ascii=False)}\n" for value in values).encode()


def table_of(values: list[dict[str, Any]], separator: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(values[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(values)
    return out.getvalue().encode()


def parquet_of(values: list[dict[str, Any]], compression: str = "snappy") -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), out, compression=compression)
    return out.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "lines": lambda: lines_of(PASSAGES),
    "lines with a mark": lambda: b"\xef\xbb\xbf" + lines_of(PASSAGES),
    "array": lambda: json.dumps(PASSAGES, indent=1).encode(),
    "csv": lambda: table_of(PASSAGES),
    "tsv": lambda: table_of([{"id": one["id"], "text": one["text"], "title": one["title"]} for one in PASSAGES], "\t"),
    "parquet": lambda: parquet_of(PASSAGES),
}

FORMS = [(form, compress) for form in FORMATS for compress in COMPRESS if form != "parquet" or compress == "plain"]
"""Parquet compresses its own columns."""


def pdf_of(pages: list[str], title: str = "") -> bytes:
    """A PDF of one line of ASCII text a page, written by hand."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(count))
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page, text in enumerate(pages):
        shown = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        bodies.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * page} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        bodies.append(f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream")
    bodies.append(f"<< /Title ({title}) >>")
    out, places = "%PDF-1.4\n", []
    for number, body in enumerate(bodies, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(bodies) + 1
    trailer = f"trailer\n<< /Size {size} /Root 1 0 R /Info {len(bodies)} 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return f"{out}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode("ascii")


def docx_of(title: str, paragraphs: list[str], rows: list[list[str]]) -> bytes:
    document = docx.Document()
    document.add_heading(title, level=1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    table = document.add_table(rows=0, cols=len(rows[0]))
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
