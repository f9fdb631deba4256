"""Where one chain leaves another: the first part that differs, in any two journals of the same questions."""

from __future__ import annotations

import json

import pytest

from steper_agent.journal import Journal
from tests.training.journals import add_run, make_journal
from tests.training.runs import AUSTEN, CONCLUDED, FIRST, OTHER, RIGHT, WROTE, ran, step
from training.chain_diff import departure, departures, main, paired
from training.verb import run

SECOND = step(WROTE, [AUSTEN], CONCLUDED)


def test_a_chain_does_not_leave_itself():
    assert departure(RIGHT, RIGHT) is None
    assert departure(RIGHT, RIGHT, exact=True) is None


@pytest.mark.parametrize(
    ("other", "at"),
    [
        (ran(step("Who?", [], "x"), answer="y"), (1, "query")),
        (ran(step(FIRST.query, [OTHER], WROTE), SECOND, answer="Steventon"), (1, "hits")),
        (ran(step(FIRST.query, [hit.passage for hit in FIRST.hits], "Emma is a novel."), answer="y"), (1, "line")),
        (ran(FIRST, step(WROTE, [AUSTEN], "She was born in Bath."), answer="Steventon"), (2, "line")),
        (ran(FIRST, answer="Jane Austen"), (2, "query")),
        (ran(FIRST, SECOND, step("more", [], "more"), answer="Steventon"), (3, "query")),
        (ran(FIRST, SECOND, answer="Bath"), (None, "answer")),
    ],
)
def test_the_first_part_that_differs_is_named_from_both_sides(other, at):
    there, back = departure(RIGHT, other), departure(other, RIGHT)
    assert there is not None
    assert back is not None
    assert (there.step, there.part) == at == (back.step, back.part)
    assert (there.a, there.b) == (back.b, back.a)


def test_wording_does_not_count_unless_it_is_asked_for():
    worded = ran(FIRST.model_copy(update={"rationale": "The passages say: by Jane Austen Emma was written"}), SECOND, answer="steventon")
    assert departure(RIGHT, worded) is None
    found = departure(RIGHT, worded, exact=True)
    assert found is not None
    assert (found.step, found.part) == (1, "line")


def test_right_and_wrong_are_told_where_they_are_known():
    found = departure(RIGHT, ran(FIRST, answer="Jane Austen"))
    assert found is not None
    assert found.right == (True, False)
    unknown = RIGHT.model_copy(update={"question": RIGHT.question.model_copy(update={"answers": ()})})
    found = departure(unknown, ran(FIRST, answer="x", question=unknown.question))
    assert found is not None
    assert found.right is None


def test_counts_add_up():
    found = departures([(RIGHT, RIGHT), (RIGHT, ran(FIRST, answer="x")), (RIGHT, ran(FIRST, SECOND, answer="Bath"))])
    assert (found.questions, found.same, len(found.departures)) == (3, 1, 2)


@pytest.fixture
def journals(tmp_path):
    """The same four questions; b is wrong in the second of them and did not ask the first."""
    make_journal(tmp_path / "a.jsonl", count=4)
    with Journal(tmp_path / "b.jsonl") as journal:
        for number in (1, 2, 3):
            add_run(journal, number, steps=1 + number % 4, right=number != 2)
    return tmp_path


def test_two_journals_are_compared_over_their_common_questions(journals, capsys):
    assert run(main, ["--a", str(journals / "a.jsonl"), "--b", str(journals / "b.jsonl"), "--json", str(journals / "out.json")]) == 0
    told = json.loads((journals / "out.json").read_text())
    assert (told["questions"], told["same"]) == (3, 2)
    assert [(one["question_id"], one["part"], one["right"]) for one in told["departures"]] == [("q2", "line", [True, False])]
    shown = capsys.readouterr().out
    assert "something else" in shown
    assert "1 of these right in a and wrong in b" in shown


def test_one_question_or_only_wrong_ones_can_be_asked_for(journals, capsys):
    both = ["--a", str(journals / "a.jsonl"), "--b", str(journals / "b.jsonl")]
    assert run(main, [*both, "--only-wrong"]) == 0
    assert "1 questions" in capsys.readouterr().out
    assert run(main, [*both, "--question", "q1"]) == 0
    assert "1 questions, 1 with the same chain" in capsys.readouterr().out
    assert run(main, [*both, "--question", "q0"]) == 2
    assert "no question of both journals is left" in capsys.readouterr().err


def test_journals_without_a_common_question_are_refused(journals, capsys):
    make_journal(journals / "c.jsonl", count=2, first=20)
    assert run(main, ["--a", str(journals / "a.jsonl"), "--b", str(journals / "c.jsonl")]) == 2
    assert "no question in common" in capsys.readouterr().err
    assert [b.question.id for _, b in paired(journals / "a.jsonl", journals / "b.jsonl")] == ["q1", "q2", "q3"]


def test_what_a_chain_says_cannot_steer_the_terminal(journals, capsys):
    with Journal(journals / "evil.jsonl") as journal:
        add_run(journal, 1, steps=2)
    text = (journals / "evil.jsonl").read_text().replace("is here.", "is \\u001b[2J[bold]here.")
    (journals / "evil.jsonl").write_text(text)
    assert run(main, ["--a", str(journals / "a.jsonl"), "--b", str(journals / "evil.jsonl")]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "[bold]" in shown
