"""Laws of the trie: every sequence is in it, nothing twice, and a token sees its own past alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.trees.trie import Tree, tree_of

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=14), min_size=1, max_size=12)


def grown(sequences: list[list[int]]) -> Tree:
    return tree_of([np.array(one) for one in sequences])


@given(SEQUENCES)
def test_every_sequence_is_in_the_row_each_token_at_its_own_position(sequences: list[list[int]]) -> None:
    tree = grown(sequences)
    for sequence, places in zip(sequences, tree.places, strict=True):
        assert tree.ids[places].tolist() == sequence
        assert tree.positions[places].tolist() == list(range(len(sequence)))


@given(SEQUENCES)
def test_a_row_is_as_long_as_there_are_different_prefixes(sequences: list[list[int]]) -> None:
    prefixes = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
    assert len(grown(sequences).ids) == len(prefixes)


@given(SEQUENCES)
def test_a_token_sees_exactly_what_stands_before_it_in_its_sequences(sequences: list[list[int]]) -> None:
    tree = grown(sequences)
    size = len(tree.ids)
    past = np.zeros((size, size), dtype=bool)
    for places in tree.places:
        for number, place in enumerate(places):
            past[place, places[: number + 1]] = True
    i, j = np.indices((size, size))
    by_last = (j <= i) & (i <= tree.last[j])
    by_branch = np.zeros_like(past)
    for branch in tree.branches:
        for place in range(branch.own.start, branch.own.end):
            by_branch[place, branch.own.start : place + 1] = True
            for run in branch.above:
                by_branch[place, run.start : run.end] = True
    assert (by_last == past).all()
    assert (by_branch == past).all()


@given(SEQUENCES)
def test_branches_cover_the_row_in_order_and_the_longest_sequence_is_one_of_them(sequences: list[list[int]]) -> None:
    tree = grown(sequences)
    covered = [place for branch in tree.branches for place in range(branch.own.start, branch.own.end)]
    assert covered == list(range(len(tree.ids)))
    assert max(branch.own.end - branch.own.start for branch in tree.branches if not branch.above) == max(map(len, sequences))
