"""Dials: at zero nothing changes; turned up, each makes questions harder to answer at once, and none makes the teacher wrong."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from pydantic import ValidationError

from steper_agent.durable import digest
from tests.training.microworld.worlds import HARDER, answered, hardened
from training.microworld.asking import understand
from training.microworld.dials import LONGEST, Dials, deepen
from training.microworld.hardening import make_hard_world
from training.microworld.make import MakeConfig, WorldCard, make
from training.microworld.questions import CHAINS, MIX, make_questions
from training.microworld.speech import reply
from training.microworld.world import make_world

AS_IT_WAS = {
    (150, "pretrain", 0): ("9696c8f70c436a10", "3782a15172d796af", "f9ec8f046eb5f248",
                           "f69cd1ef9967ce03", "ee65cd81e0512da4", "92fca63d2a0fd9ca", "af3e2256c3e0ad96", "2f0f3fdea8685cc7"),
    (500, "train", 1): ("93ea18b472223ad4", "1e29204c8f734f3d", "39265e328603edb3",
                        "208c03c3308d1e2f", "8d83366f7311b30b", "930341fa5dfbdaa1", "39262c1c15b8186a", "e44d2917ec005cca"),
    (300, "test", 2): ("3ff53ad398623934", "3bb356c86af00372", "c6edbd60052a4383",
                       "deea989afe53d37d", "ffc37108f299dd60", "7370083ec2681630", "0dcbb5dfe0680a1d", "466ebe9b7ba25d8f"),
}  # fmt: skip
"""Digests taken before there were dials: passages, questions of both mixes, and what the teacher says in five strategies. The
shipped base model was trained on that world, and every figure of the demo is of it."""


def short(value: Any) -> str:
    return digest(value)[:16]


@pytest.mark.parametrize("made", AS_IT_WAS, ids=str)
def test_with_every_dial_at_zero_all_is_as_it_was(made: tuple[int, Any, int]) -> None:
    size, split, seed = made
    world = make_hard_world(size, split=split, seed=seed, dials=Dials(hops=0, paraphrase=0.0))
    assert world == make_world(size, split=split, seed=seed)
    told = [short([passage.model_dump() for passage in world.passages])]
    told += [short([q.model_dump(mode="json") for q in make_questions(world, 60, seed=seed + 7, mix=mix)]) for mix in (None, CHAINS)]
    asked, some = make_questions(world, 24, seed=5), world.passages[: size - 60]
    for strategy in ("ircot", "self_ask", "tool_calling", "self_rag", "chain_of_note"):
        runs = answered(asked, some, strategy, steps=5)
        told.append(short([[one.opening, [[s.query, s.rationale] for s in one.steps], one.answer, one.stop] for one in runs]))
    assert tuple(told) == AS_IT_WAS[made]


def test_chains_grow_to_the_longest_and_every_share_is_kept() -> None:
    for hops in range(6):
        assert sum(deepen(MIX, hops).values()) == pytest.approx(sum(MIX.values()))
    assert deepen(MIX, 0) == MIX
    assert deepen(CHAINS, 2) == {"3": 0.2, "4": 0.4, "5": 0.3, "6": 0.1}


@pytest.mark.parametrize("strategy", ["ircot", "self_ask", "tool_calling"])
@pytest.mark.parametrize("dials", HARDER.values(), ids=HARDER)
def test_the_teacher_is_right_wherever_a_perfect_search_lets_it_be(dials: Dials, strategy: str) -> None:
    world = hardened(dials)
    for mix, patience in ((CHAINS, 2), (MIX, 0)):
        made = answered(make_questions(world, 40, seed=4, mix=mix), world.passages, strategy, steps=LONGEST + 1, patience=patience)
        assert [one.answer for one in made] == [one.question.answers[0] for one in made]
        # What a budget has ended is taught to nobody, so a teacher of such a world has to give up by itself.
        assert {one.stop for one in made} <= ({"answered"} if patience else {"answered", "budget"})


def test_without_its_marks_an_old_passage_would_be_believed_as_much() -> None:
    world = hardened(Dials(outdated=1.0))
    (question,) = make_questions(world, 1, seed=4, mix={"1": 1.0})
    meaning = understand(question.text)
    assert meaning is not None
    shown = [passage for passage in world.passages if passage.title == meaning.paths[0].start]
    asked = "".join(f"[{n}] {passage.title}: {passage.text}\n" for n, passage in enumerate(shown, start=1)) + f"\nQuestion: {question.text}"
    assert question.answers[0] in reply([HumanMessage(asked)]).text
    unmarked = re.sub(r"As of \d{4}, (\w)", lambda found: found[1].upper(), asked)
    assert "do not agree" in reply([HumanMessage(unmarked)]).text


def card(tmp_path: Path, dial: str, value: float) -> WorldCard:
    return make(MakeConfig.model_validate({"out": tmp_path / f"{dial}{value}", "passages": 400, "questions": 150, "shapes": "all", dial: value}))


@pytest.mark.parametrize(("dial", "values"), [("hops", (0, 1)), ("distractors", (0, 2, 8)), ("paraphrase", (0.0, 0.3, 1.0)), ("noise", (0, 2, 8))])
def test_a_dial_turned_up_leaves_less_that_one_search_answers(tmp_path: Path, dial: str, values: tuple[float, ...]) -> None:
    shares = [card(tmp_path, dial, value).at_once for value in values]
    assert all(less < more - 0.02 for more, less in itertools.pairwise(shares)), shares


@pytest.mark.parametrize(("dial", "values"), [("hops", (0, 1, 3)), ("distractors", (0, 2, 8)), ("outdated", (0.0, 0.5, 1.0))])
def test_these_leave_less_that_one_search_finds(tmp_path: Path, dial: str, values: tuple[float, ...]) -> None:
    found = [card(tmp_path, dial, value).recall[1 if dial == "outdated" else 3] for value in values]
    assert all(less < more for more, less in itertools.pairwise(found)), found


@pytest.mark.parametrize("wrong", [{"missing": 0.6, "unanswerable": 0.5}, {"outdated": 0.6, "contradictory": 0.5}, {"hops": -1}, {"noise": 21}, {"fog": 1}])
def test_dials_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Dials.model_validate(wrong)
