"""Reading sheets: what they ask stands in what they show, no chain is ever among it, and every word is one token."""

from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from graphs.strategies.reading import find_answer
from training.microworld.language import LITERALS, NAME, Fact, conclusions_in, facts_in, name_words
from training.microworld.pretrain import build_tokenizer
from training.microworld.questions import understand
from training.microworld.reading import MISSING, Sheet, Shelf, make_sheet, sheets
from training.microworld.tokenizer import ASSISTANT, END, PAD, SYSTEM, USER
from training.microworld.world import belongs_to, make_world

ABSENT = re.compile(rf"The passages do not say what the (?P<label>[a-z ]+) of (?P<subject>{NAME}) is\.")


@pytest.fixture(scope="module")
def some() -> list[Sheet]:
    """Sheets of every size."""
    return [sheet for passages in (1, 4, 12) for sheet in itertools.islice(take(7, passages), 120)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


def take(seed: int, passages: int) -> itertools.islice[Sheet]:
    return itertools.islice(sheets(seed=seed, passages=passages, world_size=250, per_world=60), 180)


def shown_facts(sheet: Sheet) -> list[Fact]:
    texts = re.findall(r"^\[\d+\] [^:\n]+: (.+)$", sheet.turns[0].asked, re.M)
    return [fact for text in texts for fact in facts_in(text)]


def asked_in(sheet: Sheet) -> list[str]:
    return [question for turn in sheet.turns for question in re.findall(r"^Question: (.+)$", turn.asked, re.M)]


def test_a_seed_makes_the_same_sheets_and_another_seed_others() -> None:
    assert list(take(1, 4)) == list(take(1, 4))
    assert not set(take(1, 4)) & set(take(2, 4))


def test_every_answer_stands_in_the_passages(some: list[Sheet]) -> None:
    answered = 0
    for sheet in some:
        held = shown_facts(sheet)
        for turn in sheet.turns:
            found = conclusions_in(turn.answered)
            assert set(found) <= set(held)
            assert all(f"the {fact.label} of {fact.subject}" in turn.asked for fact in found)
            answered += len(found)
    assert answered > 1000


def test_what_is_said_to_be_missing_is_in_no_passage(some: list[Sheet]) -> None:
    absent = 0
    for sheet in some:
        held = {fact[:2] for fact in shown_facts(sheet)}
        for turn in sheet.turns:
            for found in ABSENT.finditer(turn.answered):
                assert (found["subject"], found["label"]) not in held
                assert found["subject"] in sheet.turns[0].asked
                absent += 1
    assert 0.5 * MISSING < absent / sum(len(sheet.turns) for sheet in some) < 2 * MISSING


def test_no_question_needs_more_than_one_fact_to_be_found(some: list[Sheet]) -> None:
    for question in (asked for sheet in some for asked in asked_in(sheet)):
        meaning = understand(question)
        assert meaning is None or [len(path.labels) for path in meaning.paths] == [1]
        assert not re.search(r"\bthe [a-z ]+ of the [a-z ]+ of\b", question)


def test_no_answer_concludes_as_a_chain_does(some: list[Sheet]) -> None:
    for turn in (turn for sheet in some for turn in sheet.turns):
        assert not any(find_answer(line) for line in turn.answered.splitlines())
        assert turn.answered.endswith("\n")


def test_names_come_from_the_pretraining_split_only(some: list[Sheet]) -> None:
    said = [f"{turn.asked} {turn.answered}".replace("Are ", "are ") for sheet in some for turn in sheet.turns]
    names = {name for text in said for name in re.findall(NAME, text)}
    assert len(names) > 200
    assert {belongs_to(name) for name in names} == {"pretrain"}


def test_the_first_turn_shows_the_passages_as_the_graph_does(some: list[Sheet]) -> None:
    for sheet in some:
        first, question = sheet.turns[0].asked, asked_in(sheet)[0]
        assert first.endswith(f"\n\nQuestion: {question}")
        numbers = re.findall(r"^\[(\d+)\] ", first, re.M)
        assert numbers == [str(n + 1) for n in range(len(numbers))]
        assert all(turn.asked == f"Question: {turn.asked.removeprefix('Question: ')}" for turn in sheet.turns[1:])


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_sheet_shows_as_many_different_passages_as_asked(count: int) -> None:
    shelf, rng = Shelf(make_world(200, split="pretrain", seed=3)), random.Random(0)
    for _ in range(40):
        assert len({passage.id for passage in shelf.context(count, rng)}) == count
        assert make_sheet(shelf, count, rng).turns[0].asked.count("\n[") + 1 >= count


def test_every_word_of_a_name_and_every_literal_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    literals = [value for values in LITERALS.values() for value in values]
    for word in (*name_words(), *literals):
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1, word


@given(text=st.text())
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("text", ["Zürich – 東京", "a\r\n\tb  c ", "e\u0301\u2028 \x00 \U0001f701", "it 's ."])
def test_unusual_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_conversation_is_written_with_one_control_token_each(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
    said = tokenizer.convert_ids_to_tokens(ids)
    assert [token for token in said if token.startswith("<|")] == [SYSTEM, END, USER, END, ASSISTANT]
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)


def test_what_is_repeated_was_just_found(some: list[Sheet]) -> None:
    repeated = 0
    for sheet in some:
        for before, turn in itertools.pairwise(sheet.turns):
            if turn.task == "shorten":
                found = before.found[0 if "first" in turn.asked else -1]
                assert turn.answered == f"It is{':' if ':.' in turn.asked else ''} {found}.\n"
                repeated += 1
    assert repeated > 100


def test_two_names_are_the_same_if_they_are(some: list[Sheet]) -> None:
    said = [(match["one"] == match["two"], turn.answered) for sheet in some for turn in sheet.turns
            if (match := re.search(rf"Are (?P<one>{NAME}) and (?P<two>{NAME}) the same\?", turn.asked))]
    assert {same for same, _ in said} == {True, False}
    assert all(("not" not in answered) == same for same, answered in said)
