"""EM and F1 are those of the data sets' published scripts, each written here once more from what it defines."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import DataError
from steper_agent.records import Hit, Passage, Question, Step, Trajectory
from steper_agent.retrieval import read_questions
from tests.steper_agent.retrieval.shelves import DATA, write_lines
from training.evaluation import evaluate_trajectories, judge
from training.scores.metrics import best, score
from training.scores.official import RULES, DataSet, with_aliases

Pair = tuple[str, Sequence[str]]

FAMILIES = (
    ("", " ", "\t\n", "the", "A", "an the a", "...", "!?", "—", "«»", "\u200b", "_"),
    ("yes", "Yes.", "YES", "the yes", "yes it is", "yes, yes", "no", "No!", "no no", "Nolan", "noanswer", "no answer", "No-answer"),
    ("Jane Austen", "jane austen", "The Jane Austen", "Austen, Jane", "Jane  Austen", "Jane\u00a0Austen", "Jane\u3000Austen", "Jane_Austen",
     "Jane-Austen", "Jane\u2013Austen", "Jane\u200bAusten", "Jane Jane Austen", "JaneAusten", "Jane the Austen", "“Jane Austen”", "'Jane' Austen's"),
    ("anthem", "an them", "theatre", "the atre", "Athens", "A thens", "a1", "a 1", "a-team", "A Team", "the-a-an"),
    ("1,000", "1000", "1 000", "1\u00a0000", "1.000", "1,000.0", "$1,000", "１０００", "M", "1000 1000"),
    ("Straße", "STRASSE", "strasse", "İstanbul", "istanbul", "i\u0307stanbul", "ISTANBUL", "ﬁlm", "film", "café", "cafe\u0301", "CAFÉ",
     "a\u0301", "á", "Σίσυφος", "ΣΊΣΥΦΟΣ", "ǅ", "ǆ", "O’Brien", "O'Brien", "OBrien", "東京", "東 京", "the東京"),
    ("a a a b", "b b a", "x x y", "x y y", "U.S.", "US", "U. S.", "us", "10 May 1990", "May 10, 1990", "10 may 1990 10", "new york city", "New York"),
)
"""Texts that are alike, a family a line: every pair inside one is a trap, and pairs across families are not to be mistaken."""
TEXTS = [text for family in FAMILIES for text in family]
TRAPS: list[Pair] = [(said, (gold,)) for family in FAMILIES for said, gold in product(family, family)]
WITH_ALIASES: list[Pair] = [(said, (gold, TEXTS[(at * 7) % len(TEXTS)], TEXTS[(at * 11) % len(TEXTS)]))
                            for at, (said, (gold,)) in enumerate(TRAPS)]
PAIRS = [*TRAPS, *WITH_ALIASES, *((said, (gold,)) for said, gold in product(TEXTS[::2], TEXTS[1::2]))]

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12), st.lists(st.sampled_from(TEXTS), max_size=4).map(" ".join))
pairs = st.tuples(texts, st.lists(texts, min_size=1, max_size=4))


class Judged(NamedTuple):
    em: float
    f1: float


def tokens(text: str) -> list[str]:
    """All four scripts: lower case; then ASCII punctuation is dropped, not replaced; then `a`, `an` and `the` become a space where
    no letter, digit or `_` touches them; then what any white space parts. Punctuation beyond ASCII stays."""
    bare = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    runs = ["".join(run) for _, run in groupby(bare, key=lambda letter: letter.isalnum() or letter == "_")]
    return "".join(" " if run in ("a", "an", "the") else run for run in runs).split()


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    left, count = list(other), 0
    for token in one:
        if token in left:
            left.remove(token)
            count += 1
    return count


def harmonic(said: Sequence[str], gold: Sequence[str]) -> float:
    common = shared(said, gold)
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def hotpotqa(prediction: str, answer: str) -> Judged:
    """hotpot_evaluate_v1.py: F1 is 0 where either side as a whole is yes, no or noanswer and the other is not the same; and 0 where
    no token is shared, also of two empty texts, whose EM is 1."""
    said, gold = tokens(prediction), tokens(answer)
    closed = any([side] == whole for side in ("yes", "no", "noanswer") for whole in (said, gold))
    return Judged(float(said == gold), 0.0 if closed and said != gold else harmonic(said, gold))


def musique(prediction: str, answer: str) -> Judged:
    """metrics/answer.py: SQuAD 2.0's. Where a side has no token, F1 is 1 if both have none, else 0; nothing is said of yes and no."""
    said, gold = tokens(prediction), tokens(answer)
    return Judged(float(said == gold), harmonic(said, gold) if said and gold else float(said == gold))


def best_of(one: Callable[[str, str], Judged], prediction: str, answers: Sequence[str]) -> Judged:
    """2wikimultihop_evaluate_v1.1.py and MuSiQue: the greatest EM and the greatest F1, each for itself, over answer and aliases."""
    judged = [one(prediction, answer) for answer in answers]
    return Judged(max(each.em for each in judged), max(each.f1 for each in judged))


SCRIPTS: dict[DataSet, Callable[[str, str], Judged]] = {"hotpotqa": hotpotqa, "2wiki": hotpotqa, "musique": musique, "bamboogle": hotpotqa}
"""2WikiMultiHopQA took HotpotQA's functions over; for Bamboogle papers use them or SQuAD 1.1's, which agree but for yes and no."""


def assert_parity(name: DataSet, pair: Pair) -> None:
    prediction, answers = pair
    found, expected = RULES[name], best_of(SCRIPTS[name], prediction, answers)
    assert best(found.em, prediction, answers) == expected.em, (prediction, answers)
    assert best(found.f1, prediction, answers) == pytest.approx(expected.f1, abs=1e-12), (prediction, answers)


def test_every_data_set_has_its_rules_and_its_own_definition() -> None:
    assert set(RULES) == set(SCRIPTS) == set(get_args(DataSet))
    assert len({rules.definition for rules in RULES.values()}) == len(RULES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_adversarial_pairs_score_as_the_published_script_scores_them(name: DataSet) -> None:
    assert len({(said, tuple(golds)) for said, golds in TRAPS}) >= 200
    for pair in PAIRS:
        assert_parity(name, pair)
    scores = [best_of(SCRIPTS[name], *pair) for pair in PAIRS]
    assert min(sum(one.em for one in scores), sum(0 < one.f1 < 1 for one in scores)) >= 50, "the pairs are no traps"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_means_of_a_report_are_the_scripts_means(name: DataSet) -> None:
    found, expected = score(PAIRS, rules=RULES[name]), [best_of(SCRIPTS[name], *pair) for pair in PAIRS]
    assert found.em == pytest.approx(sum(one.em for one in expected) / len(PAIRS))
    assert found.f1 == pytest.approx(sum(one.f1 for one in expected) / len(PAIRS))


@pytest.mark.parametrize("name", SCRIPTS)
@given(pair=pairs)
def test_any_pair_scores_as_the_published_script_scores_it(name: DataSet, pair: Pair) -> None:
    assert_parity(name, pair)


@pytest.mark.parametrize(
    ("said", "gold", "f1_by_script", "cover"),
    [
        ("yes it is", "yes", {"hotpotqa": 0, "2wiki": 0, "musique": 0.5, "bamboogle": 0}, 1),
        ("no", "no man", {"hotpotqa": 0, "2wiki": 0, "musique": 2 / 3, "bamboogle": 0}, 0),
        ("the", "", {"hotpotqa": 0, "2wiki": 0, "musique": 1, "bamboogle": 0}, 1),
        ("Nolan", "no", {"hotpotqa": 0, "2wiki": 0, "musique": 0, "bamboogle": 0}, 1),
        ("in 1,775 years", "1775", {"hotpotqa": 0.5, "2wiki": 0.5, "musique": 0.5, "bamboogle": 0.5}, 1),
    ],
)
def test_where_the_scripts_part_so_do_the_rules(said: str, gold: str, f1_by_script: dict[DataSet, float], cover: float) -> None:
    assert {name: pytest.approx(RULES[name].f1(said, gold)) for name in f1_by_script} == f1_by_script
    assert RULES["bamboogle"].acc(said, gold) == cover
    assert RULES["hotpotqa"].acc(said, gold) == (cover if said in ("yes it is", "in 1,775 years") or not gold else 0)


@given(pair=pairs)
def test_an_exact_match_covers(pair: Pair) -> None:
    rules = RULES["bamboogle"]
    assert best(rules.em, *pair) <= best(rules.acc, *pair)


ASKED = (
    Question(id="a", text="Who?", answers=("Ann Bee",), meta={"answer_id": "Q1"}),
    Question(id="b", text="Same?", answers=("yes",), meta={"answer_id": None}),
    Question(id="c", text="Where?", answers=("Rome",), meta={"answer_id": "Q3"}),
)


def test_2wiki_takes_aliases_and_demonyms_of_the_entity_that_answers(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "id_aliases.json", [
        {"Q_id": "Q1", "aliases": ["A. Bee", "Ann Bee"], "demonyms": []},
        {"Q_id": "Q2", "aliases": ["yes indeed"], "demonyms": ["indeed"]},
        {"Q_id": "Q3", "aliases": ["Roma"], "demonyms": ["Roman"]},
    ])  # fmt: skip
    found = with_aliases(ASKED, path)
    assert [question.answers for question in found] == [("Ann Bee", "A. Bee"), ("yes",), ("Rome", "Roma", "Roman")]
    assert best(RULES["2wiki"].em, "Bee", found[0].answers) == 1, "an initial A goes as an article does, as published"
    assert best(RULES["2wiki"].em, "roman", found[2].answers) == 1


@pytest.mark.parametrize(
    ("questions", "line", "message"),
    [
        ([ASKED[1]], {"Q_id": "Q1", "aliases": [], "demonyms": []}, "no question names the entity"),
        (ASKED, {"Q_id": "Q1", "aliases": "Ann", "demonyms": []}, "`aliases` is not a list"),
        (ASKED, {"Q_id": "Q1", "aliases": [], "demonyms": [3]}, "`demonyms` is not a list"),
    ],
)
def test_aliases_that_cannot_be_used_are_refused(tmp_path: Path, questions: list[Question], line: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_aliases(questions, write_lines(tmp_path / "id_aliases.json", [line]))


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside this checkout")
def test_the_questions_of_a_real_2wiki_file_name_the_entities_of_their_answers(tmp_path: Path) -> None:
    questions = read_questions(DATA / "native" / "2wikimultihopqa_dev_sample.json", need_answers=True)
    named = [question for question in questions if question.meta["answer_id"]]
    assert len(named) > len(questions) / 3
    rows = [{"Q_id": named[0].meta["answer_id"], "aliases": ["an alias"], "demonyms": []}]
    assert sum(len(one.answers) > 1 for one in with_aliases(questions, write_lines(tmp_path / "aliases.json", rows))) >= 1


def test_a_verdict_and_its_evaluation_go_by_the_same_rules() -> None:
    step = Step(query="q", hits=(Hit(passage=Passage(id="p", title="t", text="t"), score=1.0),), rationale="yes it is")
    run = Trajectory(question=Question(id="q", text="q", answers=("yes",)), strategy="ircot", steps=(step,), answer="yes it is",
                     stop="answered", model="m", recipe="r")  # fmt: skip
    for name, expected in (("hotpotqa", 0.0), ("musique", 0.5)):
        found = evaluate_trajectories([run], rules=RULES[name])
        assert judge(run, RULES[name]).f1 == found.score.f1 == pytest.approx(expected)
        assert found.definition == RULES[name].definition
    assert evaluate_trajectories([run]) == evaluate_trajectories([run], rules=RULES["hotpotqa"])
