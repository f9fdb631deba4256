"""The page needs nothing but itself, shows hostile names as text, and has a section for all that there is something to say in."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.experiment import plots
from training.experiment.page import write_html, write_markdown
from training.experiment.records import Comparison, Group, Learned, Ratio, Report, Row, Sigma
from training.experiment.sections import Section, curves_of, sections_of

EVIL = "<script>alert(1)</script> | $\\frac{$ `x`"


def group(mean: float, n: int = 300) -> Group:
    return Group(mean=mean, interval=(mean - 0.03, mean + 0.04), n=n)


def row(name: str, mean: float, **more: Any) -> Row:
    given = {
        "name": name, "test": "near", "em": (mean - 0.01, mean + 0.01), "mean": mean, "interval": (mean - 0.03, mean + 0.04), "n": 300,
        "metrics": {"em": group(mean), "f1": group(mean + 0.02), "acc": group(mean + 0.01)},
        "groups": {"hops": {"1": group(0.8, 200), "2": group(mean, 100)}}, "abilities": {"expansion": group(0.6), "aggregation": group(0.5)},
        "marks": {"expansion": 3.5},
        "faults": {"wrong_entity": 0.1, "budget": 0.05}, "support": 0.8, "searches": 2.2, "seconds": 0.4, "tokens_read": 900.0, "tokens_written": 60.0,
        "seeds": (0, 1), "strategy": "ircot", "models": ("student@1", "student@2"), "parameters": 1_200_000, "settings": {"name": name, "journal": "ircot", "trajectories": "all"},
        "trained": Learned(trajectories=400, examples=900, tokens=1e6, updates=50, seconds=90, parameters=90_000),
    }  # fmt: skip
    return Row(**{**given, **more})


def report() -> Report:
    fewer = row("quarter", 0.5, trained=Learned(trajectories=100, examples=200, tokens=3e5, updates=12, seconds=30, parameters=90_000),
                settings={"name": "quarter", "journal": "ircot", "trajectories": "1/4"})
    teacher = row("teacher", 0.9, trained=None, parameters=None, abilities={}, seconds=None, tokens_read=None, settings={"model": "symbolic"})
    near = [row(EVIL, 0.7), fewer, teacher]
    far = [one.model_copy(update={"test": "far"}) for one in near]
    comparisons = [Comparison(name=one.name, against=EVIL, test=one.test, em=one.mean - 0.7, ci=(one.mean - 0.75, one.mean - 0.65), p=0.0005,
                              p_flip=0.2, by_seed=(0.1, 0.2), f1=0.1, acc=0.1, n=300) for one in near[1:]]  # fmt: skip
    sigma = Sigma(row=EVIL, seed=0, step=(1, 2, 3), sigma={"initialization": (1, 0.8, 0.6), "expansion": (1, 0.9, 0.8), "aggregation": (1, 1.1, 0.9)})
    return Report(title=EVIL, reference=EVIL, rows=(*near, *far), comparisons=tuple(comparisons), sigma=(sigma,), same={"near": {"k": 3}},
                  settings={}, definitions={"near": "hotpotqa"}, missing=("later",))


CLAIMS: dict[str, Comparison | Ratio] = {"gain": report().comparisons[0], "size": Ratio(name="quarter", against="teacher", test="near", em_ratio=0.55, size_ratio=None)}
OF_TEST = ["Learning curves", "By hops", "Abilities", "Marks of the judge", "What went wrong", "Accuracy against cost"]
TITLES = ["Claims", "Accuracy", "What each was taught", "Against the reference on near", *(f"{one} on near" for one in OF_TEST), *(f"{one} on far" for one in OF_TEST),
          "Transfer", "σ over time", "The same for all rows"]


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    return sections_of(report(), CLAIMS)


def test_there_is_a_section_for_all_that_was_asked_for(sections: list[Section]) -> None:
    assert [one.title for one in sections] == TITLES


def test_what_nobody_speaks_of_has_no_section() -> None:
    bare = row("one", 0.5, trained=None, abilities={}, marks={}, faults={}, groups={})
    told = report().model_copy(update={"rows": (bare,), "comparisons": (), "sigma": ()})
    deaf = told.model_copy(update={"rows": (bare.model_copy(update={"unread": 300}),)})
    assert [one.table for one in sections_of(deaf, {}) if one.title == "Marks of the judge"][0][1:] == [["one", "–", "–", "–", "300"]]
    assert [one.title for one in sections_of(told, {})] == ["Accuracy", "Accuracy against cost", "The same for all rows"]
    assert sections_of(report().model_copy(update={"rows": ()}), {}) == []


def test_the_page_needs_nothing_else_and_runs_nothing(sections: list[Section]) -> None:
    page = write_html(EVIL, sections)
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:image/svg\+xml;base64,)", page)
    assert not re.search(r"https?://|@import|url\(", page)
    assert page.count("<img ") == 8 + 5
    assert "prefers-color-scheme:dark" in page
    assert "&lt;script&gt;" in page


def test_the_markdown_is_whole_tables_and_pictures_that_exist(sections: list[Section]) -> None:
    told = write_markdown("A study", sections)
    assert set(re.findall(r"plots/(\w+)\.svg", told)) == {one.picture for one in sections if one.svg}
    for section in sections:
        assert len({len(line) for line in section.table}) <= 1, section.title
    pipes = [line for line in told.splitlines() if line.startswith("|")]
    assert all(re.search(r"(?<!\\)\|$", line) for line in pipes)


LABELS = {"scores": "EM on near", "differences": "points of EM", "learning": "trajectories taught", "by_hops": "hops", "abilities": "kind of step",
          "faults": "wrong entity", "frontier": "tokens a question", "sigma": "update"}
LABELS |= {f"{name}_on_far": LABELS[name] for name in ("learning", "by_hops", "abilities", "faults", "frontier")}


def test_pictures_are_svg_with_labels_and_the_same_every_time(sections: list[Section]) -> None:
    pictures = {section.picture: section.svg for section in sections if section.svg}
    assert pictures.keys() == LABELS.keys()
    for name, svg in pictures.items():
        words = " ".join("".join(one.itertext()) for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("text"))
        assert LABELS[name] in words
    assert {section.picture: section.svg for section in sections_of(report(), CLAIMS) if section.svg} == pictures


def test_a_curve_joins_rows_that_differ_in_trajectories_alone() -> None:
    rows = [one for one in report().rows if one.test == "near"]
    (curve,) = curves_of(rows)
    assert [one.name for one in curve.rows] == ["quarter", EVIL]
    more_seeds = rows[1].model_copy(update={"settings": {**rows[1].settings, "seeds": [0, 1, 2], "tests": ["near"]}})
    assert [len(one.rows) for one in curves_of([rows[0], more_seeds])] == [2]
    other = rows[1].model_copy(update={"settings": {**rows[1].settings, "view": "vanilla"}})
    assert curves_of([rows[0], other]) == []


def test_a_row_of_one_test_set_is_told_of_in_its_sections_and_named_in_its_panel() -> None:
    alone = row("alone", 0.6, test="far")
    told = report().model_copy(update={"rows": (*(one for one in report().rows if one.test == "near"), alone)})
    sections = {one.title: one for one in sections_of(told, {})}
    assert [line[0] for line in sections["What went wrong on far"].table] == ["row", "alone"]
    assert "alone" in [line[0] for line in sections["What each was taught"].table]
    assert "alone" in {"".join(one.itertext()).strip() for one in ElementTree.fromstring(sections["Accuracy"].svg).iter() if one.tag.endswith("text")}


def test_how_many_questions_is_said_of_each_row_where_they_differ() -> None:
    rows = [row("few", 0.5, abilities={"expansion": group(0.7, 62), "aggregation": group(0.5)}), row("many", 0.5, abilities={"expansion": group(0.6, 396), "aggregation": group(0.5)})]
    table = next(one for one in sections_of(report().model_copy(update={"rows": tuple(rows)}), {}) if one.title == "Abilities").table
    assert table[0] == ["row, by kind of step", "expansion", "aggregation (n = 300)"]
    assert [line[1].endswith(end) for line, end in zip(table[1:], ("(n = 62)", "(n = 396)"), strict=True)] == [True, True]


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(points)
def test_nobody_beats_what_is_on_the_frontier(found: list[tuple[int, int]]) -> None:
    best = plots.unbeaten([(float(cost), float(score)) for cost, score in found])
    assert best == sorted(best)
    for cost, score in best:
        assert not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in found)
    for cost, score in found:
        assert any(c <= cost and s >= score for c, s in best)


def test_more_rows_than_colours_are_said_to_be_left_out() -> None:
    many = report().model_copy(update={"rows": tuple(row(f"row {number}", 0.5) for number in range(12)), "comparisons": (), "sigma": ()})
    hops = next(one for one in sections_of(many, {}) if one.title == "By hops")
    assert "the first 8 rows" in hops.words
    assert len(hops.table) == 13
