"""Happenings add up to the exchange they tell of."""

from __future__ import annotations

from steper_agent.records import Hit, Passage, Question, Trajectory, Usage
from tui.app.messages import Account, Asked, Ended, Found, Happening, Reasoned, Spent, Understood, Wrote

HIT = Hit(passage=Passage(id="p", title="T", text="t"), score=1.0)
HAPPENED: list[Happening] = [
    Understood("who made X?"), Asked(1, "X"), Found(1, (HIT,)), Wrote(1, "Y ma"), Wrote(1, "de X."), Spent(Usage(prompt_tokens=5, completion_tokens=2)),
    Reasoned(1, "Y made X.", "ok"), Asked(2, "Y"), Found(2, ()), Spent(Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4)),
]  # fmt: skip


def account(happened: list[Happening]) -> Account:
    made = Account("and who made it?", model="m", strategy="ircot")
    for one in happened:
        made.add(one)
    return made


def test_of_a_run_that_was_stopped_everything_is_kept_that_there_was() -> None:
    for count in range(len(HAPPENED) + 1):
        exchange = account(HAPPENED[:count]).exchange(1.5, "stopped")
        steps = exchange.trajectory.steps
        assert [step.query for step in steps] == [one.query for one in HAPPENED[:count] if isinstance(one, Asked)]
        assert sum(len(step.hits) for step in steps) == sum(len(one.hits) for one in HAPPENED[:count] if isinstance(one, Found))
        assert (exchange.asked, exchange.note, exchange.trajectory.answer) == ("and who made it?", "stopped", "")
    assert exchange.trajectory.question.text == "who made X?"
    assert exchange.usage == Usage(prompt_tokens=14, completion_tokens=5, cached_tokens=4)


def test_of_a_run_that_ended_the_trajectory_is_its_own() -> None:
    trajectory = Trajectory(question=Question(id="q", text="who?"), strategy="ircot", steps=(), answer="Y", stop="answered", model="v", recipe="")
    exchange = account([*HAPPENED, Ended(trajectory, (("p",),), True)]).exchange(2.0)
    assert exchange.trajectory == trajectory
    assert (exchange.rests_on, exchange.supported, exchange.note) == ((("p",),), True, "")
