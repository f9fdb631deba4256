"""All ways to run a student agree; where one is made to differ, the report says where."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from graphs.strategies import STRATEGIES
from steper_agent.models.loading import open_tokenizer, open_vocabulary
from steper_agent.models.local import LocalChatModel
from steper_agent.records import KINDS, Example, Golden
from steper_agent.students.golden import golden_of, write_golden
from steper_agent.students.merge import merged_folder
from steper_agent.students.student import read_card, save_student
from tests.served import Serving, needs_vllm
from tests.tiny import TEMPLATE, tiny_adapter, tiny_base
from training import parity
from training.parity import COMPARED, Report, compare_ids, compare_words, examples_of

SEARCHING_ONCE = {name for name, strategy in STRATEGIES.items() if strategy.MOST_STEPS == 1}


class World(NamedTuple):
    base: Path
    student: Path
    report: Report


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A student with one golden reply, and the report on it; merged copies are kept here and not among the machine's."""
    folder = tmp_path_factory.mktemp("parity")
    base = tiny_base(folder / "base", window=2048)
    student = tiny_adapter(base, folder / "student")
    prompt = tuple(range(40, 90))
    said = LocalChatModel(path=str(base)).with_student(student).greedy(prompt, 8)
    write_golden(student, [golden_of("expansion", 2, prompt, said)])
    save_student(student, read_card(student))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "merged_folder", partial(merged_folder, cache=folder / "merged"))
        patch.setattr(parity, "OF_EACH_KIND", 1)
        yield World(base, student, parity.parity(base, student))


def named(report: Report, part: str) -> parity.Comparison:
    return next(each for each in report.comparisons if part in each.name)


def test_a_student_is_the_same_however_it_runs(world: World) -> None:
    report = world.report
    assert [each.divergence for each in report.comparisons] == [""] * (len(COMPARED) + 2)
    assert report.agrees
    for strategy in COMPARED:
        assert named(report, strategy).tokens > 1000
    assert named(report, "at training").prompts == 1
    assert named(report, "merged").prompts > 3 * len(KINDS)
    assert named(report, "merged").drift < 0.001  # type: ignore[operator]
    assert Report.model_validate_json(report.model_dump_json()) == report


def divergences(base: Path, tokenizer: Any = None) -> dict[str, str]:
    """Strategy → where trainer and graph differ first."""
    found, _ = compare_ids(tokenizer or open_tokenizer(base), open_vocabulary(base))
    return {strategy: each.divergence for strategy, each in zip(COMPARED, found, strict=True)}


def test_every_kind_is_compared_in_every_strategy(world: World) -> None:
    _, prompts = compare_ids(open_tokenizer(world.base), open_vocabulary(world.base))
    stepwise = {(prompt.source, prompt.kind) for prompt in prompts if prompt.source not in SEARCHING_ONCE}
    assert stepwise == {(strategy, kind) for strategy in COMPARED if strategy not in SEARCHING_ONCE for kind in KINDS}


def test_another_template_is_named_by_its_first_token(world: World) -> None:
    other = open_tokenizer(world.base)
    other.chat_template = TEMPLATE.replace("'<|end|>'", "'<|end|>!'")
    for strategy, told in divergences(world.base, other).items():
        first = "aggregation, step 1" if strategy in SEARCHING_ONCE else "initialization, step"
        assert f"in {strategy}, cumulative {first}" in told
        assert "<|end|>', the trainer has" in told
        assert "'!' before '<|user|>" in told
        assert "and the graph has 2 '<|user|>' before" in told


@pytest.mark.parametrize(("shift", "words"), [
    (lambda learn: (*learn[1:], 1), "at learned id 0"),
    (lambda learn: (0, *learn[:-1]), "at learned id 0"),
    (lambda learn: (*learn[:-1], 0), "and the graph has"),
    (lambda learn: (1, *learn[1:]), "at learned id 0"),
])  # fmt: skip
def test_a_mask_that_is_shifted_is_named(shift: Any, words: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(*given: Any) -> tuple[list[Example], int]:
        made, dropped = examples_of(*given)
        return [example.model_copy(update={"learn": shift(example.learn)}) for example in made], dropped

    monkeypatch.setattr(parity, "examples_of", shifted)
    monkeypatch.setattr(parity, "COMPARED", ("ircot",))
    (found,), _ = compare_ids(open_tokenizer(world.base), open_vocabulary(world.base))
    assert "in ircot, cumulative initialization, step 1 of 2 hops: at learned id" in found.divergence
    assert words in found.divergence


def test_a_line_the_graph_reads_otherwise_than_it_was_written_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.microworld.dictation.encode", lambda text, tokenizer: tokenizer.encode(f" {text}"))
    assert "at id" in divergences(world.base)["ircot"]


@pytest.fixture
def golden(world: World) -> list[tuple[str, Golden]]:
    return [("ircot", Golden.model_validate_json((world.student / "golden.jsonl").read_text()))]


def test_merged_weights_that_are_perturbed_are_named(world: World, golden: list[tuple[str, Golden]], tmp_path: Path) -> None:
    merged = shutil.copytree(merged_folder(world.base, world.student, tmp_path), tmp_path / "perturbed")
    tokenizer = open_tokenizer(world.base)
    whole = compare_words("merged", golden, LocalChatModel(path=str(merged)), tokenizer)
    assert (whole.divergence, whole.tokens, whole.ties) == ("", len(golden[0][1].output), 0)
    tensors = load_file(merged / "model.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file({name: each + 0.1 * torch.randn_like(each) for name, each in tensors.items()}, merged / "model.safetensors", {"format": "pt"})
    found = compare_words("merged", golden, LocalChatModel(path=str(merged)), tokenizer)
    assert "in ircot, expansion, step 2: at token" in found.divergence


def test_a_near_tie_is_counted_and_what_follows_is_not_compared(world: World, golden: list[tuple[str, Golden]]) -> None:
    (source, said), = golden
    model = LocalChatModel(path=str(world.base)).with_student(world.student)
    tipped = said.model_copy(update={"output": (*said.output[:3], 0, *said.output[4:]), "margins": (0.01,) * 8, "rivals": said.output})
    found = compare_words("words", [(source, tipped)], model, open_tokenizer(world.base))
    assert (found.divergence, found.tokens, found.ties) == ("", 3, 1)
    firm = tipped.model_copy(update={"margins": (2.0,) * 8})
    found = compare_words("words", [(source, firm)], model, open_tokenizer(world.base))
    assert "at token 3 of the reply" in found.divergence
    assert "0 '<|pad|>'" in found.divergence


def test_a_server_that_was_given_other_ids_is_named(world: World) -> None:
    def completion(body: dict[str, Any]) -> Any:
        told = [3, *body["prompt"]]
        return nullcontext([{"choices": [{"prompt_token_ids": told, "token_ids": [40], "finish_reason": "length"}]}])

    vocabulary = open_vocabulary(world.base)
    client = SimpleNamespace(endpoint=SimpleNamespace(url="here"), completion=completion)
    source = SimpleNamespace(model="m", vocabulary=vocabulary, tokenizer=vocabulary.tokenizer)
    model: Any = SimpleNamespace(source=source, base=SimpleNamespace(client=client))
    found = parity._reported("served", model, [parity.Prompt("ircot", "expansion", 2, (40, 41, 42))])
    assert found.divergence.startswith("in ircot, expansion, step 2: at id 0, behind '', the graph has 40")
    assert "the server has 3 '<|assistant|>' before" in found.divergence


@needs_vllm
@pytest.mark.timeout(600)
def test_vllm_reports_the_ids_that_were_sent_and_says_the_same_words(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "merged_folder", partial(merged_folder, cache=tmp_path))
    monkeypatch.setattr(parity, "OF_EACH_KIND", 1)
    student = serving.student(1)
    model = serving.model().with_student(student)
    report = parity.parity(serving.base.path, student, served={"served as an adapter": nullcontext(model)})
    model.unload()
    assert [each.divergence for each in report.comparisons if each.divergence] == []
    ids, words = report.comparisons[-2:]
    assert (ids.name, words.name) == ("ids: graph and served as an adapter", "words: PEFT in process and served as an adapter")
    assert ids.tokens > 1000
    assert words.prompts == ids.prompts
    assert words.drift is not None
    assert words.drift < 0.05
