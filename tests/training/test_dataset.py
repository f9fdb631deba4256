"""A data set accounts for every trajectory and example, is written whole or not at all, and says what it holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from steper_agent.durable import digest_file, write_atomic
from steper_agent.errors import ConfigError, DataError, JournalError, ModelError
from steper_agent.journal import Journal, read, trajectories
from steper_agent.records import KINDS, Example, Likely, NodeRecord
from tests.templates import tokenizers
from tests.tiny import tiny_base, tiny_tokenizer
from tests.training.journals import add_run, make_journal, question
from training.dataset import DatasetConfig, build, main
from training.examples.dataset_folder import DatasetCard, load_dataset, read_card
from training.examples.labels import REWRITTEN
from training.examples.views import Teaching, examples_of
from training.run_folder import SETTINGS
from training.verb import run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), window=4096)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return make_journal(tmp_path / "journal.jsonl")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Right and wrong answers, and a run without one."""
    with Journal(tmp_path / "mixed.jsonl") as journal:
        for number in range(6):
            add_run(journal, number, steps=1 + number % 3, right=number != 4)
        add_run(journal, 6, steps=2, stop="budget")
    return tmp_path / "mixed.jsonl"


def config(journal: Path, base: Path, **settings: Any) -> DatasetConfig:
    return DatasetConfig.model_validate({"journal": (journal,), "base": base, "out": journal.parent / "data", **settings})


def adds_up(card: DatasetCard) -> bool:
    """Everything read is kept or left out, in all and in every journal, and every example is written, too long or rewritten."""
    parts = [card.trajectories, *(part.trajectories for part in card.journals)]
    whole = all(counts["read"] == sum(counts.values()) - counts["read"] for counts in parts)
    of_parts = sum((Counter(part.trajectories) for part in card.journals), Counter()) == +Counter(card.trajectories)
    wanted = sum(lengths.examples for lengths in card.lengths.values())
    return whole and of_parts and wanted == sum(card.examples.values()) + card.examples_too_long + card.examples_rewritten


def test_what_is_written_is_read_and_counted(mixed: Path, base: Path) -> None:
    settings = config(mixed, base)
    card = build(settings)
    assert card == read_card(settings.out)
    assert card.trajectories == {"read": 7, "kept": 5, "wrong answer": 1, "stopped by budget": 1}
    assert adds_up(card)
    loaded, questions = load_dataset(settings.out)
    assert len(questions) == len(loaded)
    assert [examples[0].trajectory for examples in loaded] == [0, 1, 2, 3, 4]
    assert Counter(e.kind for examples in loaded for e in examples) == +Counter(card.examples)
    assert sum(len(e.ids) for examples in loaded for e in examples) == card.tokens
    assert sum(sum(e.learn) for examples in loaded for e in examples) == card.learned_tokens
    everything = build(settings.model_copy(update={"all_answers": True, "out": mixed.parent / "all"}))
    assert everything.trajectories["kept"] == 6


def test_without_filters_every_finished_right_trajectory_is_there_as_the_view_makes_it(mixed: Path, base: Path) -> None:
    card = build(config(mixed, base))
    assert card.filters == ("finished", "correct")
    right = [one for one in trajectories(mixed) if one.stop == "answered" and one.answer in one.question.answers]
    teaching = Teaching(AutoTokenizer.from_pretrained(base), "stepwise", "cumulative", 4096)
    data = load_dataset(mixed.parent / "data")
    assert data.question_ids == [one.question.id for one in right]
    assert data.trajectories == [examples_of(one, row, teaching)[0] for row, one in enumerate(right)]


def test_kinds_part_a_data_set(journal: Path, base: Path) -> None:
    def held(**settings: Any) -> Counter[Any]:
        card = build(config(journal, base, out=journal.parent / str(len(list(journal.parent.iterdir()))), **settings))
        assert adds_up(card)
        data = load_dataset(journal.parent / str(len(list(journal.parent.iterdir())) - 1))
        return Counter((id, e.kind, e.step, e.ids, e.learn) for id, examples in zip(data.question_ids, data.trajectories, strict=True) for e in examples)

    whole = held()
    assert sum((held(kinds=kind) for kind in KINDS), Counter()) == whole
    assert held(kinds="aggregation,initialization") == Counter({one: 1 for one in whole if one[1] != "expansion"})
    assert held(view="vanilla") == held(kinds="aggregation")


def test_every_filter_has_its_count(journal: Path, base: Path) -> None:
    (journal.parent / "dev.jsonl").write_text("".join(
        json.dumps({"id": id, "question": text}) + "\n" for id, text in (("q3", "?"), ("x", question(5, steps=1).text))))
    again = journal.parent / "again.jsonl"
    with Journal(again) as writer:
        add_run(writer, 0, steps=1)
        add_run(writer, 20, steps=1)
    settings = config(journal, base, dedupe=True, held_out=(journal.parent / "dev.jsonl",), contributing=True)
    card = build(settings.model_copy(update={"journal": (journal, again)}))
    assert adds_up(card)
    assert card.filters == ("finished", "correct", "held_out", "contributing", "dedupe")
    assert card.trajectories["read"] == 10
    assert card.trajectories["held out: same id"] == card.trajectories["held out: same question"] == card.trajectories["duplicate"] == 1
    assert card.held_out == {str(journal.parent / "dev.jsonl"): digest_file(journal.parent / "dev.jsonl")}
    assert [part.trajectories["read"] for part in card.journals] == [8, 2]
    assert card.journals[1].rounds == {0: 2}
    supported = build(config(journal, base, supported=True, out=journal.parent / "supported"))
    assert adds_up(supported)
    assert supported.trajectories["unsupported answer"] == 8 - supported.trajectories["kept"] > 0


def test_trimmed_and_dropped_examples_are_counted_and_told(journal: Path, base: Path) -> None:
    plans: list[Any] = []
    whole = build(config(journal, base), on_plan=plans.append)
    length = max(one.p50 for one in whole.lengths.values())
    card = build(config(journal, base, max_length=length, max_dropped=1, out=journal.parent / "short"), on_plan=plans.append)
    assert adds_up(card)
    assert card.lengths == whole.lengths
    assert card.examples_trimmed == sum(cut.trimmed for cut in card.cuts.values()) > 0
    assert card.examples_too_long > 0
    assert plans == [whole.plan, card.plan]
    assert any("trimmed to fit" in line for line in card.plan)
    assert any("dropped" in line for line in card.plan)


def test_scored_turns_in_other_tokens_are_counted_apart_and_named(journal: Path, base: Path) -> None:
    tokenizer, scored = tiny_tokenizer(), journal.parent / "scored.jsonl"
    with Journal(scored) as writer:
        for record in read(journal):
            writer.append(record)
            if isinstance(record, NodeRecord) and record.node == "reason":
                token = tokenizer.pad_token_id if record.step == 1 else tokenizer.encode(record.output)[0]
                likely = Likely(model="t", tokens=(token,), logprobs=(-0.1,), top_ids=((token,),), top_logprobs=((-0.1,),))
                writer.append(record.model_copy(update={"node": "score", "of": "reason", "key": f"{record.key} scored", "likely": likely}))
    settings = config(scored, base, teacher=base)
    with pytest.raises(DataError, match=r"^8 of 20 examples are scored turns .* other tokens(.|\n)*tokenizer") as caught:
        build(settings)
    assert "max-length" not in str(caught.value)
    card = build(settings.model_copy(update={"max_dropped": 0.4}))
    assert (card.examples_rewritten, card.examples_too_long, sum(card.examples.values())) == (8, 0, 12)
    assert adds_up(card)
    assert card.trajectories == {"read": 8, "kept": 6, REWRITTEN: 2}


def test_a_dry_run_says_the_same_and_writes_nothing(journal: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(journal.parent.iterdir())
    dry = build(config(journal, base, dry_run=True))
    assert main(["--journal", str(journal), "--base", str(base), "--out", str(journal.parent / "data"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert sorted(journal.parent.iterdir()) == before
    assert "\n".join(dry.plan) in told
    assert "nothing is written" in told
    assert build(config(journal, base)) == dry


def test_the_same_command_finds_its_folder_done_and_another_is_refused_by_name(journal: Path, base: Path) -> None:
    settings = config(journal, base)
    card = build(settings)
    assert build(settings, on_progress=lambda *_: pytest.fail("made again")) == card
    assert json.loads((settings.out / "settings.json").read_text())["base"] == str(base)
    for key, value in (("view", "vanilla"), ("dedupe", True), ("kinds", ("aggregation",)), ("max_length", 2000)):
        with pytest.raises(ConfigError, match=f"has {key} = "):
            build(settings.model_copy(update={key: value}))
    with Journal(journal) as writer:
        add_run(writer, 20, steps=2)
    with pytest.raises(ConfigError, match="has journal_contents = "):
        build(settings)
    assert read_card(settings.out) == card


@pytest.mark.parametrize("lost", ["card.json", "examples.jsonl"])
def test_a_data_set_that_was_cut_short_or_damaged_is_made_again(journal: Path, base: Path, lost: str) -> None:
    settings = config(journal, base)
    card = build(settings)
    (settings.out / lost).write_text("half")
    assert build(settings) == card
    assert len(load_dataset(settings.out).trajectories) == 8


def test_a_part_is_drawn_and_counted_and_a_folder_from_before_there_were_parts_goes_on(journal: Path, base: Path) -> None:
    whole = config(journal, base)
    card = build(whole)
    assert not {"take", "take_seed"} & json.loads((whole.out / SETTINGS).read_text()).keys()
    assert build(whole) == card
    half = whole.model_copy(update={"take": "1/2", "take_seed": 3})
    with pytest.raises(ConfigError, match="has take = None, not '1/2'"):
        build(half)
    drawn = build(half.model_copy(update={"out": journal.parent / "half"}))
    assert drawn.trajectories == {"read": 8, "kept": 4, "not drawn": 4}
    assert drawn.filters[0] == "take 1/2 by seed 3"
    assert adds_up(drawn)
    with pytest.raises(ConfigError, match="there are 8 trajectories, not 9"):
        build(half.model_copy(update={"take": "9", "out": journal.parent / "more"}))


def test_journals_of_one_recipe_are_one_data_set_and_of_two_must_be_asked_for(tmp_path: Path, base: Path) -> None:
    one, two, other = (make_journal(tmp_path / f"{name}.jsonl", count=3, first=at, recipe=recipe)
                       for name, at, recipe in (("one", 0, "r" * 64), ("two", 3, "r" * 64), ("other", 6, "s" * 64)))
    settings = config(one, base).model_copy(update={"journal": (one, two)})
    assert build(settings).trajectories["kept"] == 6
    three = settings.model_copy(update={"journal": (one, two, other), "out": tmp_path / "three"})
    with pytest.raises(ConfigError, match=f"{'r' * 12} (.|\n)*{'s' * 12} (.|\n)*--allow-mixed-recipes"):
        build(three)
    assert not three.out.exists()
    card = build(three.model_copy(update={"allow_mixed_recipes": True}))
    assert (card.recipes, card.allow_mixed_recipes) == (("r" * 64, "s" * 64), True)
    with pytest.raises(ConfigError, match="given twice"):
        build(settings.model_copy(update={"journal": (one, one)}))


def test_bad_input_is_one_clear_error_and_leaves_nothing(journal: Path, base: Path) -> None:
    settings = config(journal, base, max_length=300)
    with pytest.raises(DataError, match=r"exceed 300 tokens(.|\n)*--max-length"):
        build(settings)
    for key, value, error, words in (
        ("base", journal.parent / "nowhere", ModelError, "no such model folder"), ("max_length", 5000, ConfigError, "sees 4096 tokens"),
        ("journal", (journal.parent / "nowhere",), JournalError, "no journal"), ("held_out", (journal.parent / "no",), DataError, "--held-out"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            build(settings.model_copy(update={key: value}))
    with pytest.raises(ConfigError, match="vanilla"):
        build(config(journal, base, view="vanilla", kinds="expansion"))
    assert not settings.out.exists()
    with pytest.raises(DataError, match="no data set here"):
        load_dataset(journal.parent / "nowhere")
    build(config(journal, base))
    with (settings.out / "examples.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(DataError, match="not those the card describes"):
        load_dataset(settings.out)


def test_a_tokenizer_without_its_template_s_tokens_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", window=4096)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizers()["chatml"].chat_template
    tokenizer.save_pretrained(base)
    with pytest.raises(ConfigError, match=r"<\|im_end\|>"):
        build(config(tmp_path / "never read", base))


@pytest.mark.parametrize(("spoilt", "words"), [
    (lambda one: one.update(learn=[0] * len(one["ids"])), "nothing to learn"),
    (lambda one: one.update(learn=[1] + [0] * (len(one["ids"]) - 1)), "nothing to learn"),
    (lambda one: one["learn"].pop(), "a mask of"),
    (lambda one: one.pop("ids"), "not a trajectory's examples"),
], ids=["no mask", "nothing before it", "short mask", "no ids"])  # fmt: skip
def test_a_hand_made_example_that_teaches_nothing_is_refused_by_its_line(journal: Path, base: Path, spoilt: Any, words: str) -> None:
    out, card = journal.parent / "data", build(config(journal, base))
    lines = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    spoilt(lines[2]["examples"][-1])
    write_atomic(out / "examples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_atomic(out / "card.json", card.model_copy(update={"digest": digest_file(out / "examples.jsonl")}).model_dump_json())
    with pytest.raises(DataError, match=words) as caught:
        load_dataset(out)
    assert str(caught.value.where) == f"{out / 'examples.jsonl'}:3"


def test_an_example_that_teaches_by_likelihood_alone_is_read_as_it_was(journal: Path, base: Path) -> None:
    out, card = journal.parent / "data", build(config(journal, base))
    lines = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    likely = Likely(model="m", tokens=(5, 6), logprobs=(-0.1, -0.2), top_ids=((5, 7), (6, 8)), top_logprobs=((-0.1, -3.0), (-0.2, -2.0)))
    lines[0]["examples"][0].update(learn=[0] * len(lines[0]["examples"][0]["ids"]), likely=likely.model_dump())
    write_atomic(out / "examples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_atomic(out / "card.json", card.model_copy(update={"digest": digest_file(out / "examples.jsonl")}).model_dump_json())
    first, *_ = load_dataset(out).trajectories[0]
    assert first.likely == likely
    assert first == Example.model_validate(lines[0]["examples"][0])


def test_the_command_line_makes_a_data_set(journal: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--journal", str(journal), "--base", str(base), "--out", str(journal.parent / "data"), "--kinds", "aggregation,initialization"]
    assert run(main, flags) == 0
    told = capsys.readouterr().out
    assert "8 of 8 trajectories" in told
    assert "initialization: 6 examples" in told
    assert "expansion:" not in told
    assert run(main, [*flags, "--kinds", "middle"]) == 2
    assert "`kinds" in capsys.readouterr().err
