"""The demo's report: a record that survives its file, and one page that needs nothing beside it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from steper_agent.records import KINDS
from training.demo.report import Answered, DemoReport, Judged, SwapStory, write_html

PICTURE = b"\x89PNG\r\n\x1a\nnot much of one"
NASTY = "<script>alert('x')</script> & \"{braces}\""


def judged(em: float, parameters: int) -> Judged:
    return Judged(em=em, f1=em + 0.01, acc=em + 0.02, n=300, ci=(em - 0.1, em + 0.1), seconds=0.25,
                  parameters=parameters, support_recall=(0.5, 1.0), failures={"budget": 3})


def answered(model: str, text: str) -> Answered:
    return Answered(model=model, question=text, answer=text, gold="Ann", rationale=(text, "So the answer is: Ann."))


@pytest.fixture
def report() -> DemoReport:
    level = dict.fromkeys(KINDS, 1.5)
    swap = SwapStory(before=answered("base@1", NASTY), after=answered("student@2", "Ann"), failed_runs=0, runs=60,
                     during={"base@1": 20, "student@2": 4}, drained=True, seconds={"load": 0.5})
    return DemoReport(teacher=judged(0.95, 0), base=judged(0.125, 5_000_000), student=judged(0.875, 5_100_000),
                      step=[1, 2], loss=[level, level], sigma=[level, level], swap=swap,
                      seconds={"index": 1.25, "distill": 99.0},
                      recipe={"settings": {"seed": 0}, "student": "student@2"})


@pytest.fixture
def page(report: DemoReport, tmp_path: Path) -> str:
    (tmp_path / "loss.png").write_bytes(PICTURE)
    (tmp_path / "sigma.png").write_bytes(PICTURE)
    return write_html(report, [tmp_path / "loss.png", tmp_path / "sigma.png"])


class Reader(HTMLParser):
    """The tags, the addresses and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_the_page_needs_no_other_file_and_no_network(page: str, tmp_path: Path) -> None:
    assert not re.search(r"https?://|@import|url\(", page)
    assert str(tmp_path) not in page
    addresses = Reader(page).addresses
    assert len(addresses) == 2
    for address in addresses:
        kind, _, data = address.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == PICTURE


def test_what_a_model_wrote_is_text_on_the_page(page: str) -> None:
    read = Reader(page)
    assert "script" not in read.tags
    assert "<script" not in page
    assert read.text.count(NASTY) == 3


def test_the_table_holds_everyone_with_interval_cost_and_size(page: str) -> None:
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    assert ["teacher", "0.950", "0.850 – 1.050", "0.960", "0.970", "0.250", "symbolic"] in rows
    assert ["base", "0.125", "0.025 – 0.225", "0.135", "0.145", "0.250", "5,000,000"] in rows
    assert ["student", "0.875", "0.775 – 0.975", "0.885", "0.895", "0.250", "5,100,000"] in rows
    assert ["distill", "99.0"] in rows


def test_the_page_tells_the_swap(page: str) -> None:
    text = Reader(page).text
    assert "before: base@1" in text
    assert "after: student@2" in text
    assert "60 runs around the swap, 0 failed" in text


def test_the_record_survives_its_file(report: DemoReport) -> None:
    assert DemoReport.model_validate_json(report.model_dump_json(indent=1)) == report


def test_a_page_without_pictures_is_whole_too(report: DemoReport) -> None:
    page = write_html(report, [])
    assert Reader(page).addresses == []
    assert page.endswith("</html>\n")
