"""Documents: what people wrote, and nothing else, comes out; what is broken says so and names the file."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import docx
import pypdf
import pytest

from steper_agent.errors import DataError, DependencyError
from steper_agent.retrieval.sources import documents, streams
from steper_agent.retrieval.sources.documents import read_document
from tests.steper_agent.retrieval.sources.made import COMPRESS, docx_of, pdf_of, write

PAGE = """<!DOCTYPE html>
<html><head><title> The
 Page </title><style>p { color: red }</style><script>var x = "no";</script></head>
<body><nav><a href="/">Home</a></nav>
<h1>Heading</h1><!-- hidden -->
<p>One <b>bold</b>
word &amp; caf&eacute;.</p><p>Two<br>lines.</p>
<script>more()</script>tail
<table><tr><th>Name</th><td>Ada</td></tr><tr><th>Born</th><td>1815</td></tr></table>
<pre>kept
  as it is</pre>
</body></html>"""
TEXT = "Heading\n\nOne bold word & café.\n\nTwo\nlines.\n\ntail\n\nName\tAda\n\nBorn\t1815\n\nkept\nas it is"


@pytest.mark.parametrize("compress", COMPRESS)
def test_a_web_page_is_its_paragraphs_without_scripts_styles_and_navigation(compress: str, tmp_path: Path) -> None:
    end = "" if compress == "plain" else f".{compress}"
    found = read_document(write(tmp_path / f"page.html{end}", COMPRESS[compress](PAGE.encode())))
    assert (found.title, found.parts) == ("The Page", [TEXT])


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<h1>A <i>b</i></h1><p>x", "A b"),
        ("<p>x", "page"),
        ("<title></title><p>x", "page"),
        ("", "page"),
        (" \n", "page"),
        ("<!-- moved -->", "page"),
        ("<!DOCTYPE html>\n", "page"),
    ],
)
def test_a_page_without_a_title_is_called_by_its_heading_or_its_file(page: str, title: str, tmp_path: Path) -> None:
    assert read_document(write(tmp_path / "page.html", page.encode())).title == title


def test_a_page_is_read_in_the_charset_it_declares_and_in_no_other(tmp_path: Path) -> None:
    declared = '<meta charset="iso-8859-1"><p>café'.encode("latin-1")
    assert read_document(write(tmp_path / "a.html", declared)).parts == ["café"]
    with pytest.raises(DataError, match=r"not UTF-8 text[^$]*b\.html:2\n"):
        read_document(write(tmp_path / "b.html", "<p>\ncafé".encode("latin-1")))
    for charset in (b"klingon", b"rot13", b"undefined"):
        with pytest.raises(DataError, match="unknown charset"):
            read_document(write(tmp_path / "c.html", b'<meta charset="' + charset + b'"><p>x'))
    assert read_document(write(tmp_path / "d.html", b'<meta charset="utf-7"><p>+2AA- x')).parts == ["? x"]


def test_a_deep_or_long_page_is_read_whole_and_one_nested_without_end_is_refused(tmp_path: Path) -> None:
    assert read_document(write(tmp_path / "deep.html", b"<div>" * 1000 + b"bottom")).parts == ["bottom"]
    long = write(tmp_path / "long.html", b"<p>" + b"word " * (3 << 20) + b"</p><p>end")
    assert read_document(long).parts[0].endswith("word\n\nend")
    with pytest.raises(DataError, match=r"the page is broken[^$]*endless\.html:1\n"):
        read_document(write(tmp_path / "endless.html", b"<div>" * 50_000 + b"bottom"))


def test_a_pdf_is_its_pages_under_its_title_or_its_files_name(tmp_path: Path) -> None:
    found = read_document(write(tmp_path / "paper.pdf", pdf_of(["Page one.", "Page two."], "The Paper")))
    assert (found.title, found.parts) == ("The Paper", ["Page one.", "Page two."])
    assert read_document(write(tmp_path / "paper.pdf", pdf_of(["x"]))).title == "paper"


def encrypted(password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_of(["Secret."])))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_pdf_that_needs_a_password_is_refused_and_one_with_an_empty_one_is_read(tmp_path: Path) -> None:
    assert read_document(write(tmp_path / "open.pdf", encrypted(""))).parts == ["Secret."]
    with pytest.raises(DataError, match="encrypted") as caught:
        read_document(write(tmp_path / "shut.pdf", encrypted("key")))
    assert caught.value.where == tmp_path / "shut.pdf"


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4\n", b"not a PDF", pdf_of(["x"])[:300]])
def test_a_broken_pdf_is_one_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the PDF is broken[^$]*a\.pdf"):
        read_document(write(tmp_path / "a.pdf", content))


def test_a_word_document_is_its_paragraphs_and_its_tables_rows(tmp_path: Path) -> None:
    content = docx_of("The Letter", ["Dear Ada,", "", "come."], [["Name", "Ada"], ["Born", "1815"]])
    found = read_document(write(tmp_path / "letter.docx", content))
    assert (found.title, found.parts) == ("The Letter", ["The Letter\n\nDear Ada,\n\ncome.\n\nName\tAda\n\nBorn\t1815"])


def test_a_cell_that_spans_columns_is_said_once(tmp_path: Path) -> None:
    document = docx.Document(io.BytesIO(docx_of("T", ["x"], [["wide", ""], ["a", "b"]])))
    document.tables[0].cell(0, 0).merge(document.tables[0].cell(0, 1))
    document.save(tmp_path / "a.docx")
    assert read_document(tmp_path / "a.docx").parts == ["T\n\nx\n\nwide\n\na\tb"]


WHOLE = docx_of("T", ["x"], [["y"]])


def without_its_text() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive, zipfile.ZipFile(out, "w") as made:
        for name in archive.namelist():
            made.writestr(name, archive.read(name) if name != "word/document.xml" else b"<not xml")
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", WHOLE[:-100], WHOLE[: len(WHOLE) // 2], without_its_text()])
def test_a_broken_word_document_is_one_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the DOCX file is broken") as caught:
        read_document(write(tmp_path / "a.docx", content))
    assert caught.value.where == tmp_path / "a.docx"


def test_an_archive_that_expands_without_end_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FLOOR", 1 << 20)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(30 << 20))
    with pytest.raises(DataError, match="expands to more than"):
        read_document(write(tmp_path / "a.docx", out.getvalue()))


def test_a_text_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not UTF-8 text[^$]*a\.txt:3\n"):
        read_document(write(tmp_path / "a.txt", b"one\r\ntwo\r\n\xff"))
    assert read_document(write(tmp_path / "b.md", b"\xef\xbb\xbf# B\r\n\r\nx")).parts == ["# B\n\nx"]


def test_a_document_of_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LIMIT", 1 << 20)
    with pytest.raises(DataError, match="more than 1 MiB"):
        read_document(write(tmp_path / "a.txt", bytes(2 << 20)))


@pytest.mark.parametrize(("name", "module"), [("a.pdf", "pypdf"), ("a.docx", "docx"), ("a.html", "lxml.etree")])
def test_a_missing_package_is_named_with_its_cure(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=r"steper-agent\[documents\]"):
        read_document(write(tmp_path / name, b"x"))
