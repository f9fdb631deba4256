"""What each data set says of the right chain, in its own way, comes to the same record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steper_agent.errors import DataError
from steper_agent.records import Question
from steper_agent.retrieval import read_questions
from training.attribution.gold import gold_of, names_in, read_golds
from training.attribution.records import Gold, Link

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"


def asked(**meta: object) -> Question:
    return Question(id="q", text="Where was the author of Emma born?", answers=("Steventon",), supporting_ids=("p1", "p2"), meta=meta)


MUSIQUE = [{"question": "Who wrote Emma?", "answer": "Jane Austen", "title": "Emma", "passage_id": "p1"},
           {"question": "Where was #1 born?", "answer": "Steventon", "title": "Jane Austen", "passage_id": "p2"}]  # fmt: skip
NATIVE = [{"question": "Who wrote Emma?", "answer": "Jane Austen", "paragraph_support_idx": 2},
          {"question": "Where was #1 born?", "answer": "Steventon", "paragraph_support_idx": 0}]  # fmt: skip
TRIPLES = [["Emma", "author", "Jane Austen"], ["Jane Austen", "place of birth", "Steventon"]]


@pytest.mark.parametrize(
    "meta",
    [
        {"decomposition": MUSIQUE},
        {"question_decomposition": NATIVE, "context_ids": ["p2", "p9", "p1"]},
        {"evidences": TRIPLES, "type": "inference", "supporting_facts": [["Emma", 0], ["Jane Austen", 1]]},
        {"decomposition": [{"question": "x", "triple": triple} for triple in TRIPLES], "type": "compositional", "supporting_titles": ["Emma", "Jane Austen"]},
    ],
)
def test_every_data_sets_own_chain_is_read(meta):
    found = gold_of(asked(**meta))
    assert found.certainty == "chain"
    assert found.answer == "Steventon"
    assert [(link.objects, link.passages) for link in found.links] == [(("Jane Austen",), ("p1",)), (("Steventon",), ("p2",))]
    assert found.links[1].subject == "Jane Austen"


def test_a_comparison_does_not_end_with_its_last_fact():
    assert gold_of(asked(evidences=TRIPLES, type="comparison")).answer == ""


def test_without_a_chain_the_supports_are_known_and_without_those_the_answer():
    assert gold_of(asked()) == Gold(links=(Link(passages=("p1",)), Link(passages=("p2",))), certainty="supports")
    assert gold_of(Question(id="q", text="Who?", answers=("x",))) == Gold(links=(), certainty="answer")


def test_written_lines_are_hops_where_they_bring_up_a_name(tmp_path):
    steps = [{"text": "Emma was written by Jane Austen.", "titles": ["Emma"]}, "Jane Austen was born in Steventon.", "So the answer is: Steventon."]
    line = {"id": "q", "question": "x", "answer": "Steventon", "reasoning_steps": steps}
    (tmp_path / "gold.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "id": "elsewhere"}) + "\n")
    found = read_golds(tmp_path / "gold.jsonl", [asked(supporting_titles=["Emma", "Jane Austen"])])
    assert list(found) == ["q"]
    assert [(link.objects, link.passages) for link in found["q"].links] == [(("austen jane",), ("p1",)), (("steventon",), ())]


@pytest.mark.parametrize("line", ["no json", "[]", '{"id": "q"}', '{"id": "q", "reasoning_steps": [{"titles": []}]}'])
def test_a_broken_line_is_named_by_its_number(tmp_path, line):
    (tmp_path / "gold.jsonl").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"gold\.jsonl:1"):
        read_golds(tmp_path / "gold.jsonl", [asked()])


def test_a_word_that_opens_a_sentence_is_a_name_only_together_with_more():
    assert set(names_in("Jane Austen wrote in 1815. Born there, she did.")) == {frozenset({"jane", "austen"}), frozenset({"1815"})}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real questions are not here")
@pytest.mark.parametrize(("name", "certainty"), [("hotpotqa", "supports"), ("2wikimultihopqa", "chain"), ("musique", "chain")])
def test_the_real_data_sets_say_what_they_should(name, certainty):
    questions = read_questions(REAL / f"{name}.questions.jsonl")
    golds = [gold_of(question) for question in questions]
    assert sum(gold.certainty == certainty for gold in golds) / len(golds) > 0.8
    links = [link for gold in golds for link in gold.links]
    assert sum(bool(link.passages) for link in links) / len(links) > 0.98


@pytest.mark.skipif(not REAL.is_dir(), reason="the real questions are not here")
def test_hand_written_chains_are_read_with_their_passages():
    questions = [one for name in ("hotpotqa", "2wikimultihopqa", "musique") for one in read_questions(REAL / f"{name}.questions.jsonl")]
    golds = read_golds(REAL / "cot.jsonl", questions)
    assert len(golds) > 20
    links = [link for gold in golds.values() if gold.certainty == "chain" for link in gold.links]
    assert all(link.objects for link in links)
    assert sum(bool(link.passages or link.titles) for link in links) / len(links) > 0.8
