"""Who is live is a pure function of the history, and its laws hold for every history, also for one nobody would write."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import AdapterError
from steper_agent.records import Action, StudentEvent
from steper_agent.students.standing import Roll, disposable, fold

A, B, C = (f"student@{letter * 12}" for letter in "abc")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(action: Action, student: str | None = A, base: str = "one", **more: object) -> StudentEvent:
    return StudentEvent.model_validate({"time": AT, "action": action, "student": student, "base": base, "by": "test", **more})


def told(text: str) -> Roll:
    """`+a ^a -a`: added, promoted and pruned; `<a` and `<`: rolled back to it, and to the bare base; `!a`: refused."""
    signs: dict[str, Action] = {"+": "added", "^": "promoted", "-": "pruned", "<": "rolled_back", "!": "refused"}
    names = {"a": A, "b": B, "c": C, "": None}
    return fold(event(signs[word[0]], names[word[1:]]) for word in text.split())


events = st.builds(event, st.sampled_from(["added", "promoted", "rolled_back", "pruned", "refused"]),
                   st.sampled_from([A, B, C, None]), st.sampled_from(["one", "two"]))


@given(st.lists(events, max_size=12))
def test_at_most_one_student_is_live_per_base_whatever_happened(history: list[StudentEvent]) -> None:
    roll = fold(history)
    for base in ("one", "two"):
        live = [each.name for each in roll.students.values() if each.base == base and each.state == "live"]
        assert live == [name for name in [roll.live(base)] if name is not None]
        assert roll.before(base) is None or roll.students[roll.before(base) or ""].state == "retired"
    assert not roll.pruned & roll.students.keys()


@given(st.lists(events, max_size=12), st.integers(0, 3), st.booleans())
def test_prune_never_takes_what_is_live_and_keeps_the_newest(history: list[StudentEvent], keep: int, candidates: bool) -> None:
    roll = fold(history)
    gone = disposable(roll, keep=keep, candidates=candidates)
    assert all(roll.students[name].state != "live" for name in gone)
    for base in ("one", "two"):
        pool = {each.name: each.changed for each in roll.students.values() if each.base == base and each.state != "live"
                and (candidates or each.state == "retired")}
        kept = {name: at for name, at in pool.items() if name not in gone}
        assert len(kept) == min(keep, len(pool))
        assert min(kept.values(), default=0) >= max((pool[name] for name in gone if name in pool), default=0) or not kept


@given(st.lists(events, max_size=12), events)
def test_a_refusal_changes_nobody_s_standing(history: list[StudentEvent], last: StudentEvent) -> None:
    before, after = fold(history), fold([*history, last.model_copy(update={"action": "refused"})])
    assert (after.students, after.lines, after.decided) == (before.students, before.lines, before.decided)


@pytest.mark.parametrize(("history", "live", "before"), [
    ("+a", None, None),
    ("+a ^a", A, None),
    ("+a +b ^a ^b", B, A),
    ("+a +b ^a ^b <a", A, None),
    ("+a +b +c ^a ^b ^c <b <a", A, None),
    ("+a +b +c ^a ^b <a ^c", C, A),  # what was rolled back from does not come back by a rollback
    ("+a +b ^a ^b ^a", A, B),
    ("+a +b ^a ^a", A, None),
    ("+a ^a <", None, None),
    ("+a +b +c ^a ^b ^c -b", C, A),
    ("^a", A, None),  # its `added` line was lost
])  # fmt: skip
def test_a_rollback_goes_one_further_back_each_time(history: str, live: str | None, before: str | None) -> None:
    roll = told(history)
    assert (roll.live("one"), roll.before("one")) == (live, before)


def test_states_follow_each_other() -> None:
    assert {each.name: each.state for each in told("+a +b +c ^a ^b").students.values()} == {A: "retired", B: "live", C: "candidate"}
    assert list(told("+a ^a < -a").students) == []
    assert told("+a ^a < -a +a").students[A].state == "candidate"


def test_scores_are_the_newest_known() -> None:
    history = [event("added", scores={"em": 0.4, "f1": 0.5}), event("promoted", scores={"em": 0.6})]
    assert fold(history).students[A].scores == {"em": 0.6, "f1": 0.5}


def test_a_name_is_found_by_its_first_digits_and_by_nothing_else() -> None:
    roll = told("+a +b -c")
    assert roll.find("student@a").name == roll.find("aa").name == roll.find(A).name == A
    for name in ("", "student@", "../a", "/a", "a/", "a.", "A", "student@a\n", "teacher@a", "a" * 13):
        with pytest.raises(AdapterError, match="not a student's name"):
            roll.find(name)
    with pytest.raises(AdapterError, match="no student `d`"):
        roll.find("d")
    with pytest.raises(AdapterError, match="`c` was pruned"):
        roll.find("c")
    with pytest.raises(AdapterError, match="may mean"):
        fold([event("added", "student@" + "ab" * 6), event("added", "student@" + "ac" * 6)]).find("a")


def test_the_only_base_needs_no_fingerprint() -> None:
    one = told("+a +b")
    assert one.base(None) == one.base("on") == "one"
    both = fold([event("added", A, "one"), event("added", B, "two")])
    assert both.base("t") == "two"
    for roll, digits in ((both, None), (both, "x"), (fold([]), None)):
        with pytest.raises(AdapterError):
            roll.base(digits)
