"""The text of PDF and DOCX files, page by page and paragraph by paragraph."""

from __future__ import annotations

import logging
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from steper_agent.errors import DataError
from steper_agent.retrieval.sources.extras import load
from steper_agent.retrieval.sources.streams import bomb, expansion_limit

_BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
)
"""What parsers of other people's files meet besides their own errors."""


def read_pdf(content: bytes, path: Path) -> tuple[str, list[str]]:
    """Title, empty where none is stated, and the text of every page.

    Raises:
        DataError: the file is broken or needs a password.
        DependencyError: pypdf is missing.
    """
    pypdf, errors = load("pypdf", "PDF", path), load("pypdf.errors", "PDF", path)
    # What it mends on the way is not worth a person's eyes.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    parts: list[str] = []
    try:
        reader = pypdf.PdfReader(BytesIO(content))
        # Many are encrypted with an empty password, against printing and the like.
        if reader.is_encrypted and not reader.decrypt(""):
            raise errors.FileNotDecryptedError
        title = str(reader.metadata.title or "") if reader.metadata else ""
        for page in reader.pages:
            parts.append(page.extract_text().replace("\r\n", "\n"))
    except (errors.FileNotDecryptedError, errors.DependencyError) as locked:
        raise DataError("the PDF is encrypted", where=path, fix="save it without a password") from locked
    except (errors.PyPdfError, *_BROKEN) as bad:
        raise DataError(
            f"the PDF is broken: {bad}", where=f"{path}, after page {len(parts)}", fix="save it again, or give its text"
        ) from bad
    return title, parts


def read_docx(content: bytes, path: Path) -> tuple[str, str]:
    """Title, empty where there is none, and the text: a paragraph or a table's row apart by blank lines.

    Raises:
        DataError: the file is broken or a bomb.
        DependencyError: python-docx is missing.
    """
    docx, lxml = load("docx", "DOCX", path), load("lxml.etree", "DOCX", path)
    errors = load("docx.opc.exceptions", "DOCX", path)
    try:
        # No member gives more bytes than the archive states for it.
        with zipfile.ZipFile(BytesIO(content)) as archive:
            size, limit = sum(member.file_size for member in archive.infolist()), expansion_limit(len(content))
        if size > limit:
            raise bomb(path, limit)
        document = docx.Document(BytesIO(content))
        title = document.core_properties.title or next(_headings(document), "")
        return title, "\n\n".join(filter(None, _blocks(document)))
    except (zipfile.BadZipFile, errors.OpcError, lxml.LxmlError, *_BROKEN) as bad:
        raise DataError(f"the DOCX file is broken: {bad}", where=path, fix="save it again, or give its text") from bad


def _headings(document: Any) -> Iterator[str]:
    for paragraph in document.paragraphs:
        style = paragraph.style.name if paragraph.style is not None else None
        if (style or "").startswith(("Title", "Heading")) and paragraph.text.strip():
            yield paragraph.text


def _blocks(document: Any) -> Iterator[str]:
    for block in document.iter_inner_content():
        if hasattr(block, "rows"):
            for row in block.rows:
                # A cell that spans several columns is listed once for each.
                cells = {id(cell._tc): cell.text.strip() for cell in row.cells}
                yield "\t".join(filter(None, cells.values()))
        else:
            yield block.text.strip()
