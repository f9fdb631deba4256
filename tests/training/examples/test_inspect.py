"""What is learned of an example is seen without colours, and nothing in a text does anything to a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent.errors import DataError
from steper_agent.records import KINDS, Example
from tests.tiny import tiny_base, tiny_tokenizer
from tests.training.journals import make_journal
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from training import distill
from training.dataset import DatasetConfig, build
from training.examples.inspect_example import by_token, find, header, inert, masked, read_examples
from training.examples.masks import CLOSE, OPEN, TURN, spelled

EXAMPLE = Example(trajectory=3, kind="expansion", step=2, ids=(1, 2, 3, 4, 5, 6), learn=(0, 1, 0, 0, 1, 1), turn=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and the base it was made for."""
    place = tmp_path_factory.mktemp("inspect")
    base = tiny_base(place / "base", window=4096)
    build(DatasetConfig(journal=(make_journal(place / "journal.jsonl", count=4),), base=base, out=place / "set"))
    return place


def shown(capsys: pytest.CaptureFixture[str], folder: Path, *argv: str) -> str:
    assert distill.main(["inspect", "--dataset", str(folder / "set"), "--base", str(folder / "base"), *argv]) == 0
    return capsys.readouterr().out


def test_what_is_learned_stands_in_signs_and_the_rest_as_it_is() -> None:
    text = masked(EXAMPLE, spelled)
    assert text.plain == f"1 {OPEN}2 {CLOSE}3 {TURN}4 {OPEN}5 6 {CLOSE}"
    assert {text.plain[span.start : span.end] for span in text.spans if "green" in str(span.style)} == {f"{OPEN}2 {CLOSE}", f"{OPEN}5 6 {CLOSE}"}
    assert "1 tokens not learned" in masked(EXAMPLE, spelled, only_learned=True).plain


def test_a_header_says_what_the_example_is() -> None:
    for words in ("expansion", "step 2", "trajectory 4", "6 tokens", "3 of them learned", "begins at token 3"):
        assert words in header(EXAMPLE).plain


def test_every_token_has_its_line_on_demand() -> None:
    lines = by_token(EXAMPLE, spelled).plain.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("▸")] == [str(place) for place in range(6)]
    assert [OPEN in line for line in lines if not line.startswith("▸")] == [bool(learn) for learn in EXAMPLE.learn]
    assert len(by_token(EXAMPLE, spelled, only_learned=True).plain.splitlines()) == 3 + 1


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_inert_and_only_what_is_learned_is_marked(text: str) -> None:
    told = masked(EXAMPLE, lambda _: f"{text}{OPEN}{CLOSE}").plain
    assert not FORBIDDEN & set(told)
    assert told.count(OPEN) == told.count(CLOSE) == 2
    told.encode()


def test_what_is_hidden_is_spelled_out_and_the_rest_is_left_alone() -> None:
    assert inert("pass\u200bword \x1b[2J\t") == "pass\\u200bword \\x1b[2J\\t"
    assert inert("日本語\nnaïve") == "日本語\nnaïve"


def test_the_target_of_an_example_is_what_its_ids_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = find(folder / "set", 2, "aggregation")
    told = shown(capsys, folder, "--kind", "aggregation", "--example", "2")
    learned = tiny_tokenizer().decode([id for id, learn in zip(example.ids, example.learn, strict=True) if learn])
    signs = "".join(part.split(CLOSE)[0] for part in told.split(OPEN)[1:])
    assert signs == learned
    assert "passages" not in shown(capsys, folder, "--target").split("\n", 1)[1]
    assert shown(capsys, folder, "--tokens").count("\n") > len(find(folder / "set", 1).ids)


@pytest.mark.parametrize("colours", [False, True])
def test_no_colour_is_respected_and_nothing_is_lost_by_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, colours: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    told = shown(capsys, folder)
    assert ("\x1b[1;4;32m" in told) == colours
    assert OPEN in told


def test_examples_are_counted_in_all_and_by_kind(folder: Path) -> None:
    examples = list(read_examples(folder / "set"))
    assert [find(folder / "set", number) for number in range(1, len(examples) + 1)] == examples
    for kind in KINDS:
        assert find(folder / "set", 1, kind) == next(example for example in examples if example.kind == kind)
    with pytest.raises(DataError, match=rf"no example 99(.|\n)*choose 1 to {len(examples)}"):
        find(folder / "set", 99)
    with pytest.raises(DataError, match="no example 99 of kind expansion"):
        find(folder / "set", 99, "expansion")


def test_what_is_no_data_set_is_an_error_that_names_the_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set here"):
        find(tmp_path, 1)
    (tmp_path / "card.json").write_bytes((folder / "set" / "card.json").read_bytes())
    (tmp_path / "examples.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"examples\.jsonl:1"):
        find(tmp_path, 1)


def test_ids_are_shown_where_the_tokenizer_is_not_to_be_found(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("card.json", "examples.jsonl"):
        (tmp_path / name).write_bytes((folder / "set" / name).read_bytes())
    assert distill.main(["inspect", "--dataset", str(tmp_path), "--target"]) == 0
    told = capsys.readouterr().out
    assert "token ids are shown" in told
    assert spelled(tuple(id for id, learn in zip(find(tmp_path, 1).ids, find(tmp_path, 1).learn, strict=True) if learn)) in told
