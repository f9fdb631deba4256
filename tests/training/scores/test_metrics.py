"""The metrics agree with the data sets' published definitions and obey their laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import DataError
from training.scores.metrics import acc, best, em, f1, interval, normalise, paired_difference, recall_at, score

words = st.lists(st.sampled_from(["Jane", "Austen", "the", "a", "1775", "yes", "no", "U.S.", "an", "Emma"]), max_size=6)
texts = words.map(" ".join) | st.text(max_size=20)
shares = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(texts)
def test_normalising_twice_is_normalising_once(text):
    assert normalise(normalise(text)) == normalise(text)


@given(texts)
def test_an_exact_match_is_a_full_overlap_and_contained(text):
    if normalise(text):
        assert em(text, text) == f1(text, text) == acc(text, text) == 1


@given(texts, texts)
def test_a_prediction_scores_no_less_on_a_laxer_metric(said, gold):
    assert em(said, gold) <= acc(said, gold)
    assert 0 <= f1(said, gold) <= 1
    if em(said, gold) and normalise(gold):
        assert f1(said, gold) == 1


@given(texts, texts)
def test_overlap_does_not_care_which_side_is_gold(said, gold):
    assert f1(said, gold) == f1(gold, said)


@given(words, words)
def test_articles_case_and_punctuation_do_not_count(said, gold):
    plain, dressed = " ".join(said), "The " + " an ".join(word.upper() + ",;" for word in said) + "!"
    for metric in (em, f1, acc):
        assert metric(plain, " ".join(gold)) == metric(dressed, " ".join(gold))


@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_another_accepted_answer_never_hurts(said, answers):
    for metric in (em, f1, acc):
        assert best(metric, said, answers) == max(metric(said, answer) for answer in answers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Beatles!", "beatles"),
        ("  A  man, an  apple; the end. ", "man apple end"),
        ("U.S.A.", "usa"),
        ("half-moon", "halfmoon"),
        ("anthem", "anthem"),
        ("«Émile»", "«émile»"),
        ("The", ""),
    ],
)
def test_normalisation_is_the_published_one(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("said", "gold", "exact", "overlap", "contained"),
    [
        ("Jane Austen", "Jane Austen", 1, 1, 1),
        ("jane austen.", "The Jane Austen", 1, 1, 1),
        ("Jane", "Jane Austen", 0, 2 / 3, 0),
        ("the novelist Jane Austen", "Jane Austen", 0, 4 / 5, 1),
        ("Austen Jane", "Jane Austen", 0, 1, 0),
        ("Jane Jane", "Jane Austen", 0, 0.5, 0),
        ("London", "Paris", 0, 0, 0),
        ("yes", "yes", 1, 1, 1),
        ("yes", "no", 0, 0, 0),
        ("yes it is", "yes", 0, 0, 1),
        ("no", "no man's land", 0, 0, 0),
        ("noanswer", "no answer", 0, 0, 0),
        ("Nolan", "no", 0, 0, 0),
        ("1775", "17", 0, 0, 0),
        ("", "Jane Austen", 0, 0, 0),
        ("anything", "The", 0, 0, 0),
        ("a", "The", 1, 0, 1),
    ],
)
def test_hand_made_cases_score_as_published(said, gold, exact, overlap, contained):
    assert em(said, gold) == exact
    assert f1(said, gold) == pytest.approx(overlap)
    assert acc(said, gold) == contained


def test_scores_are_means_with_the_interval_of_em():
    found = score([("Jane Austen", ["J. Austen", "Jane Austen"]), ("Emma", ["Jane Austen"])])
    assert (found.em, found.f1, found.acc, found.n) == (0.5, 0.5, 0.5, 2)
    assert found.ci == (0, 1)


@given(shares, st.integers(0, 2**32))
def test_the_interval_holds_the_mean_and_is_the_same_every_time(values, seed):
    low, high = interval(values, seed=seed)
    assert low <= sum(values) / len(values) <= high
    assert (low, high) == interval(values, seed=seed)


def test_the_interval_has_the_width_of_the_normal_one():
    low, high = interval([0.0, 1.0] * 500)
    assert (low, high) == (pytest.approx(0.5 - 1.96 * 0.0158, abs=0.004), pytest.approx(0.5 + 1.96 * 0.0158, abs=0.004))


@given(shares)
def test_nothing_differs_from_itself(values):
    found = paired_difference(values, values)
    assert (found.mean, found.ci, found.is_clear) == (0, (0, 0), False)


def test_a_clear_gain_is_called_clear():
    found = paired_difference([0.0] * 30 + [1.0] * 10, [1.0] * 30 + [0.0] * 2 + [1.0] * 8)
    assert found.mean == pytest.approx(0.7)
    assert found.is_clear


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(DataError, match="no predictions"):
        score([])
    with pytest.raises(DataError, match="without an answer"):
        score([("x", [])])
    with pytest.raises(DataError, match="do not pair"):
        paired_difference([1.0], [1.0, 0.0])
    with pytest.raises(DataError, match="no meaning"):
        recall_at(["a"], [], 2)


@given(st.lists(st.integers(0, 20), unique=True), st.lists(st.integers(0, 20), min_size=1), st.integers(1, 20))
def test_looking_deeper_never_lowers_recall(found, gold, k):
    hits, supports = [str(hit) for hit in found], [str(support) for support in gold]
    assert 0 <= recall_at(hits, supports, k) <= recall_at(hits, supports, k + 1) <= 1


def test_recall_counts_supports_once():
    assert recall_at(["a", "x", "b"], ["a", "b", "b"], 2) == 0.5
