"""A view is a choice among the same examples, and what makes a long one fit never touches what is taught."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest

from graphs.strategies.self_ask import NAME as SELF_ASK
from graphs.strategies.tool_calling import NAME as TOOL_CALLING
from steper_agent.errors import ConfigError
from steper_agent.journal import trajectories
from steper_agent.records import KINDS, Example, Hit, Passage, Trajectory
from tests.templates import tokenizers
from tests.tiny import tiny_tokenizer
from tests.training.journals import make_journal
from training.examples.views import (
    PROMPT_TOO_LONG,
    TARGET_TOO_LONG,
    Target,
    Teaching,
    check_template,
    examples_of,
    fits_of,
    kind_of,
)

ANY_LENGTH = 10_000


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Trajectory]:
    return trajectories(make_journal(tmp_path_factory.mktemp("journal") / "journal.jsonl"))


@pytest.fixture(scope="module")
def opened(told: list[Trajectory]) -> Trajectory:
    """One that says what it looks for before its first search."""
    return longest(told).model_copy(update={"strategy": SELF_ASK})


def longest(told: list[Trajectory]) -> Trajectory:
    return next(t for t in told if len(t.steps) == 4)


def taught(example: Example) -> list[int]:
    return [id for id, learned in zip(example.ids, example.learn, strict=True) if learned]


def test_cumulative_learns_every_line_and_incremental_the_last(told: list[Trajectory], tokenizer: Any) -> None:
    trajectory = next(t for t in told if len(t.steps) == 3)
    both = {t: examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", t, ANY_LENGTH))[0] for t in ("cumulative", "incremental")}
    for step, (whole, own) in enumerate(zip(both["cumulative"], both["incremental"], strict=True), start=1):
        text = tokenizer.decode(taught(whole))
        assert text.removesuffix("<|end|>") == "".join(f"{s.rationale}\n" for s in trajectory.steps[:step])
        assert whole.ids == own.ids
        assert (sum(whole.learn) > sum(own.learn)) == (step > 1)


def test_the_vanilla_view_is_the_last_example_of_the_stepwise_one(told: list[Trajectory], tokenizer: Any) -> None:
    for trajectory, target in itertools.product(told, get_args(Target)):
        stepwise, _ = examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", target, ANY_LENGTH))
        vanilla, _ = examples_of(trajectory, 0, Teaching(tokenizer, "vanilla", target, ANY_LENGTH))
        assert vanilla == stepwise[-1:]


def test_all_that_a_chain_says_is_learned_in_the_vanilla_view_and_what_opens_it_once_in_the_stepwise_one(opened: Trajectory, tokenizer: Any) -> None:
    stepwise, _ = examples_of(opened, 0, Teaching(tokenizer, "stepwise", "cumulative", ANY_LENGTH))
    (vanilla,), _ = examples_of(opened, 0, Teaching(tokenizer, "vanilla", "cumulative", ANY_LENGTH))
    said = [tokenizer.decode(taught(example)) for example in stepwise]
    opening = f"Follow up: {opened.steps[0].query}"
    assert [opening in one for one in said] == [True] + [False] * len(opened.steps)
    assert vanilla.ids == stepwise[-1].ids
    assert opening in tokenizer.decode(taught(vanilla))
    assert tokenizer.decode(taught(vanilla)).endswith(said[-1])


def test_kinds_part_the_stepwise_view(told: list[Trajectory], tokenizer: Any) -> None:
    for trajectory in told:
        whole, _ = examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", "cumulative", ANY_LENGTH))
        parts = [examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", "cumulative", ANY_LENGTH, (kind,)))[0] for kind in KINDS]
        assert all(example.kind == kind for kind, part in zip(KINDS, parts, strict=True) for example in part)
        assert sorted((one for part in parts for one in part), key=lambda one: one.step) == whole


def test_kinds_follow_from_the_position() -> None:
    assert [kind_of(step, 4) for step in (1, 2, 3, 4)] == ["initialization", "expansion", "expansion", "aggregation"]
    assert kind_of(1, 1) == "aggregation"


def test_a_long_example_loses_its_oldest_unneeded_passages_and_never_its_target(told: list[Trajectory], tokenizer: Any) -> None:
    trajectory = longest(told)
    full = examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", "cumulative", ANY_LENGTH))[0][-1]
    (cut,), _ = examples_of(trajectory, 0, Teaching(tokenizer, "vanilla", "cumulative", len(full.ids) - 1))
    text = tokenizer.decode(cut.ids)
    passages = [hit.passage for step in trajectory.steps for hit in step.hits]
    assert passages[1].text not in text
    assert all(p.text in text for p in passages if p is not passages[1])
    assert sum(cut.learn) == sum(full.learn)
    assert examples_of(trajectory, 0, Teaching(tokenizer, "vanilla", "cumulative", 60)) == ([], 1)


@pytest.mark.parametrize("target", get_args(Target))
@pytest.mark.parametrize("strategy", ["ircot", TOOL_CALLING])
def test_whatever_fits_keeps_gold_passages_and_target_and_what_does_not_says_why(
    told: list[Trajectory], tokenizer: Any, target: Target, strategy: str
) -> None:
    trajectory = longest(told).model_copy(update={"strategy": strategy, "opening": "First a search." if strategy == TOOL_CALLING else ""})
    gold = [hit.passage.text for step in trajectory.steps for hit in step.hits if hit.passage.id in trajectory.question.supporting_ids]
    whole = fits_of(trajectory, 0, Teaching(tokenizer, "stepwise", target, ANY_LENGTH))
    lengths = range(5, max(fit.tokens for fit in whole) + 40, 61)
    seen = set()
    for length in lengths:
        for before, fit in zip(whole, fits_of(trajectory, 0, Teaching(tokenizer, "stepwise", target, length)), strict=True):
            assert before.example is not None
            assert (fit.kind, fit.tokens) == (before.kind, len(before.example.ids))
            assert bool(fit.example) != bool(fit.reason)
            if fit.example:
                assert len(fit.example.ids) <= length
                assert taught(fit.example) == taught(before.example)
                assert fit.example.ids[fit.example.turn :] == before.example.ids[before.example.turn :]
                assert (fit.trimmed > 0) == (fit.tokens > length)
                shown = tokenizer.decode(fit.example.ids)
                assert all(text in shown for text in gold[: fit.example.step])
            elif fit.reason == TARGET_TOO_LONG:
                assert len(taught(before.example)) >= length
            seen.add((bool(fit.trimmed), fit.reason))
    assert seen == {(False, ""), (True, ""), (False, TARGET_TOO_LONG), (False, PROMPT_TOO_LONG)}


def test_where_nobody_knows_the_gold_passages_those_a_rationale_rests_on_stay(told: list[Trajectory], tokenizer: Any) -> None:
    trajectory = longest(told)
    first, *later = trajectory.steps
    read, spare = Passage(id="a", title="Emma", text="Emma came from Jane Austen."), Passage(id="b", title="Otto", text="Otto sleeps.")
    first = first.model_copy(update={"hits": (Hit(passage=read, score=2), Hit(passage=spare, score=1)), "rationale": read.text})
    unknown = trajectory.model_copy(update={"question": trajectory.question.model_copy(update={"supporting_ids": ()}), "steps": (first, *later)})
    (full,) = fits_of(unknown, 0, Teaching(tokenizer, "vanilla", "incremental", ANY_LENGTH))
    (cut,) = fits_of(unknown, 0, Teaching(tokenizer, "vanilla", "incremental", full.tokens - 1))
    assert cut.example is not None
    prompt = tokenizer.decode(cut.example.ids)
    assert f"{read.title}: {read.text}" in prompt
    assert spare.text not in prompt


@pytest.mark.parametrize("family", [*tokenizers(), "tiny"])
def test_a_tokenizer_that_belongs_to_its_template_passes(family: str) -> None:
    check_template({**tokenizers(), "tiny": tiny_tokenizer()}[family], "base")


@pytest.mark.parametrize("shows", ["m.content[0].text", "raise_exception('no texts')", "'<image>' if m.content is string"])
def test_a_template_that_shows_no_text_is_refused_before_anything_is_taught(shows: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = f"{{% for m in messages %}}{{{{ m.role }}}}:{{{{ {shows} }}}};{{% endfor %}}"
    with pytest.raises(ConfigError, match=r"does not show what is said(.|\n)*here"):
        check_template(tokenizer, "here")


def test_a_template_whose_end_the_tokenizer_splits_is_refused_by_name() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizers()["chatml"].chat_template
    with pytest.raises(ConfigError, match=r"<\|im_end\|>.* splits into \d+ ids(.|\n)*here"):
        check_template(tokenizer, "here")
