"""A filter leaves out what it says it leaves out, whatever other filters do, and names why."""

from __future__ import annotations

import random
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from steper_agent.errors import ConfigError
from steper_agent.records import Hit, Label, Passage, Question, Step, Trajectory
from training.examples import backtracing, filters
from training.examples.backtracing import wandering
from training.examples.filters import filters_for, first_reason, recipes_of, unrepeated, unsupported
from training.examples.held_out import SAME_ID, SAME_TEXT, HeldOut, near_told
from training.examples.names import named

EMMA = Passage(id="emma", title="Emma (novel)", text="Emma is a novel by Jane Austen, published in 1815.")
AUSTEN = Passage(id="austen", title="Jane Austen", text="Jane Austen was born in Steventon, Hampshire.")
PARIS = Passage(id="paris", title="Paris", text="Paris has 2,102,650 people.")


def step(rationale: str, *passages: Passage, query: str = "") -> Step:
    return Step(query=query, hits=tuple(Hit(passage=passage, score=1.0) for passage in passages), rationale=rationale)


def chain(*steps: Step, asked: str = "Where was the author of Emma born?", answer: str = "Steventon", **fields: Any) -> Trajectory:
    question = Question(id=fields.pop("id", "q"), text=asked, answers=fields.pop("answers", (answer,)))
    return Trajectory.model_validate({"question": question, "strategy": "ircot", "steps": steps, "answer": answer, "stop": "answered",
                                      "model": "m", "recipe": "r", **fields})  # fmt: skip


GOOD = chain(step("The author of Emma is Jane Austen.", EMMA),
             step("Jane Austen was born in Steventon. So the answer is: Steventon.", AUSTEN))  # fmt: skip


def with_steps(*steps: Step) -> Trajectory:
    return GOOD.model_copy(update={"steps": steps})


@pytest.mark.parametrize(("text", "found"), [
    ("The author of Emma is Jane Austen.", [{"emma"}, {"jane", "austen"}]),
    ("Paris has 2,102,650 people in 20 parts.", [{"2102650"}, {"20"}]),
    ("So the answer is: Rome.", [{"rome"}]),
    ("Jane Austen", [{"jane", "austen"}]),
    ('Passage 3 and [12] call it "a small world".', [{"small", "world"}]),
    ("Hurricane No. 1 was formed by J. K. Rowling's friends.", [{"1"}, {"rowling"}]),
    ("the passages do not say what it is", []),
])  # fmt: skip
def test_names_numbers_and_quoted_texts_are_seen(text: str, found: list[set[str]]) -> None:
    seen = named(text)
    assert all(one in seen for one in found)
    assert bool(seen) == bool(found)


def test_what_stands_in_passages_question_or_earlier_lines_is_supported() -> None:
    assert unsupported(GOOD) == ""
    assert unsupported(chain(step("Paris has 2102650 people. So the answer is: 2102650.", PARIS), asked="How many live in Paris?",
                             answer="2102650")) == ""  # fmt: skip
    assert unsupported(chain(step("It is so. So the answer is: yes.", EMMA), asked="Is it?", answer="yes")) == ""


def test_a_chain_that_says_what_it_has_not_read_is_lucky() -> None:
    one, two = GOOD.steps
    assert unsupported(with_steps(one, step(two.rationale))) == filters.UNSUPPORTED
    assert unsupported(with_steps(step(one.rationale, AUSTEN), step("It was there.", EMMA))) == "", "both names stand in the passage"
    assert unsupported(with_steps(step("The author of Emma is John Austen.", EMMA, AUSTEN), two)) == filters.UNSUPPORTED
    assert unsupported(GOOD.model_copy(update={"answer": "Winchester"})) == filters.LUCKY
    assert unsupported(GOOD.model_copy(update={"opening": "I think of Mary Shelley."})) == filters.UNSUPPORTED


def test_words_of_one_name_must_stand_together() -> None:
    apart = (Passage(id="1", title="Ann", text="Ann Lee paints."), Passage(id="2", title="Bob", text="Bob Ray sings."))
    assert unsupported(chain(step("It is by Ann Ray. So the answer is: Ann.", *apart), answer="Ann")) == filters.UNSUPPORTED
    assert unsupported(chain(step("It is by Ann Lee. So the answer is: Ann.", *apart), answer="Ann")) == ""


BRIDGE = GOOD.steps
COMPARISON = chain(step("Jan de Bont was born on 22 October 1943."), step("Raoul Walsh was born on March 11, 1887."),
                   step("Thus, Raoul Walsh was born first."), step("So the answer is: Raoul Walsh."),
                   asked="Who was born first, Jan de Bont or Raoul Walsh?", answer="Raoul Walsh")  # fmt: skip
TWO_BRIDGES = chain(step("The Sun was directed by David Dhawan."), step("The Trial was directed by Karl Freund."),
                    step("David Dhawan's nationality is India."), step("Karl Freund's nationality is Germany. So the answer is: no."),
                    asked="Are the directors of The Sun and The Trial of the same nationality?", answer="no")  # fmt: skip
ASKED = chain(step("Jane Austen", query="Who wrote Emma?"), step("Steventon. So the final answer is: Steventon", query="Where was Jane Austen born?"))
TANGENTS = (step("The passages do not say where Steventon is."), step("Mary Shelley lived in Bournemouth."))


@pytest.mark.parametrize("whole", [GOOD, COMPARISON, TWO_BRIDGES, ASKED], ids=["bridge", "comparison", "two bridges", "self-ask"])
def test_a_chain_whose_every_step_is_needed_stays(whole: Trajectory) -> None:
    assert wandering(whole) == ""


@pytest.mark.parametrize("tangent", TANGENTS)
@pytest.mark.parametrize("whole", [GOOD, COMPARISON, TWO_BRIDGES], ids=["bridge", "comparison", "two bridges"])
def test_a_step_that_nothing_behind_it_needs_is_a_detour(whole: Trajectory, tangent: Step) -> None:
    for at in range(len(whole.steps) - 2):
        steps = (*whole.steps[: at + 1], tangent, *whole.steps[at + 1 :])
        assert wandering(whole.model_copy(update={"steps": steps})) == backtracing.DETOUR


def test_a_failed_search_before_the_answer_is_a_detour() -> None:
    one, two = BRIDGE
    assert wandering(with_steps(one, step("The passages do not say where Jane Austen was born."), two)) == backtracing.DETOUR


def test_only_the_first_of_equal_chains_of_equal_questions_stays() -> None:
    repeated = unrepeated()
    other_case = GOOD.model_copy(update={"question": GOOD.question.model_copy(update={"id": "q2", "text": "where was author of Emma born"})})
    other_chain = with_steps(step("Emma is by Jane Austen.", EMMA), GOOD.steps[1])
    found = [repeated(one) for one in (GOOD, other_case, other_chain, GOOD)]
    assert found == ["", filters.DUPLICATE, "", filters.DUPLICATE]


def test_a_held_out_question_is_known_by_id_or_text_and_a_near_one_is_named() -> None:
    asked = "In which small town of the county was the author of the novel Emma born?"
    held_out = HeldOut.of([Question(id="dev1", text=asked), Question(id="dev2", text="Who wrote Emma?")])
    assert held_out.leaked(chain(*BRIDGE, id="dev2")) == SAME_ID
    assert held_out.leaked(chain(*BRIDGE, asked="who wrote EMMA")) == SAME_TEXT
    assert held_out.leaked(GOOD) == ""
    assert held_out.near(Question(id="t", text=f"Tell me: {asked[:-6]} buried?")) == ["t is like dev1"]
    assert held_out.near(GOOD.question) == []
    (warning,) = near_told([f"q{number} is like dev1" for number in range(25)])
    assert warning.startswith("25 kept questions share 8 words")
    assert "q9 is like dev1, and 15 more" in warning
    assert near_told([]) == ()


def drawn(seed: int) -> list[Trajectory]:
    """Trajectories with every fault, alone and together, and equal ones."""
    rng = random.Random(seed)
    kinds = [BRIDGE, (BRIDGE[0], TANGENTS[1], BRIDGE[1]), (step("It is by Mary Shelley.", EMMA), BRIDGE[1])]
    return [chain(*rng.choice(kinds), id=f"q{rng.randrange(6)}", answer=rng.choice(["Steventon", "London"]), answers=("Steventon",),
                  stop=rng.choice(["answered", "answered", "budget"])) for _ in range(25)]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_in_any_order_the_filters_keep_the_same_and_every_trajectory_has_one_fate(seed: int) -> None:
    told, kept = drawn(seed), []
    held_out = HeldOut.of([Question(id="q3", text="?")])
    names = list(filters_for(held_out, correct=True, supported=True, contributing=True, dedupe=False))
    assert names == ["finished", "correct", "held_out", "supported", "contributing"]
    for order in permutations(names):
        chosen = filters_for(held_out, correct=True, supported=True, contributing=True, dedupe=True)
        reasons = [first_reason(one, [chosen[name] for name in (*order, "dedupe")]) for one in told]
        kept.append([number for number, reason in enumerate(reasons) if not reason])
    assert all(one == kept[0] for one in kept)
    assert kept[0]
    assert len({told[number].question.text + str(told[number].steps) for number in kept[0]}) == len(kept[0])


def test_what_is_not_asked_for_is_off() -> None:
    nothing = filters_for(HeldOut.of([]), correct=False, supported=False, contributing=False, dedupe=False)
    assert list(nothing) == ["finished"]


def test_mixed_recipes_are_named_with_where_they_are() -> None:
    other = GOOD.model_copy(update={"recipe": "s" * 64, "strategy": "self_ask"})
    journals = {Path("a.jsonl"): [GOOD, other], Path("b.jsonl"): [GOOD]}
    with pytest.raises(ConfigError) as caught:
        recipes_of(journals, mixed=False)
    assert all(word in str(caught.value) for word in ("r (1 ircot trajectories in b.jsonl)", "s" * 12, "self_ask", "--allow-mixed-recipes"))
    assert recipes_of(journals, mixed=True) == ("r", "s" * 64)
    assert recipes_of({Path("a"): [GOOD], Path("b"): [GOOD]}, mixed=False) == ("r",)


def test_rounds_of_a_student_have_recipes_of_their_own_but_one_strategy() -> None:
    labelled = GOOD.model_copy(update={"labels": (Label(step=1, of="reason", rationale="x", model="teacher"),), "recipe": "round1"})
    assert recipes_of({Path("a"): [GOOD], Path("b"): [labelled]}, mixed=False) == ("r", "round1")
    other = labelled.model_copy(update={"strategy": "self_ask"})
    with pytest.raises(ConfigError, match="recipes are mixed"):
        recipes_of({Path("a"): [GOOD], Path("b"): [other]}, mixed=False)
