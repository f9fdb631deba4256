"""A student's README.md is one that Hugging Face reads, and it changes nothing about the student; merged, a student stays itself."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from steper_agent.errors import AdapterError, ConfigError
from steper_agent.records import KINDS, StudentCard
from steper_agent.students.golden import check_golden
from steper_agent.students.student import content_hash, read_golden, verify_student
from tests.tiny import tiny_adapter, tiny_base
from tests.training.journals import make_journal
from training import distill
from training.dataset import DatasetConfig, build
from training.disk import DiskFull
from training.distill import DistillConfig, Distilled
from training.examples.dataset_folder import DatasetCard, read_card
from training.loop.curve import CurvePoint
from training.student import merge as merge_student
from training.student.card import Taught, model_card
from training.student.merge import MergeConfig, merge


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("card")
    base = tiny_base(folder / "base", window=4096)
    build(DatasetConfig(journal=(make_journal(folder / "journal.jsonl", count=4),), base=base, out=folder / "set"))
    return {"dataset": folder / "set", "base": base, "rank": 4, "alpha": 8, "batch": 4, "out": folder / "run", "learning_rate": 0.05}


@pytest.fixture(scope="module")
def done(settings: dict[str, Any]) -> Distilled:
    return distill.run(DistillConfig(**settings))


def taught(data: DatasetCard, **changes: Any) -> Taught:
    student = StudentCard(name="student@1", content="1", base="f", form="full", target="cumulative", view="stepwise", data="d", sigma={},
                          weighting="uniform", parameters=1, created_by="test", scores={"em": 0.5})  # fmt: skip
    point = CurvePoint(step=1, seconds=1.0, tokens=1, rate=1.0, loss={"expansion": 1.0}, sigma=dict.fromkeys(KINDS, 1.0))
    return Taught(student, Path("some/base"), data, {"rank": 4, "out": "/home/me/run"}, [point], [])._replace(**changes)


def test_the_card_is_read_by_hugging_face_and_tells_what_was_taught(done: Distilled, settings: dict[str, Any]) -> None:
    card, data = ModelCard.load(done.student / "README.md"), read_card(settings["dataset"])
    assert card.data.base_model == "base"
    assert card.data.library_name == "peft"
    assert card.data.datasets == [f"sha256-{data.digest}"]
    assert {"steper", "lora"} <= set(card.data.tags)
    for words in (done.name, data.journals[0].digest, "journal.jsonl", "4 of 4 trajectories", "learned", "--model local:BASE+STUDENT",
                  "steper students parity", "loss.png", f"{done.sigma['expansion']:.4f}", *done.warnings):  # fmt: skip
        assert words in card.text
    assert str(settings["out"].parent) not in card.content, "a path of the machine it was made on"


def test_the_card_is_no_part_of_what_the_student_is(done: Distilled, settings: dict[str, Any]) -> None:
    card = done.student / "README.md"
    before, told = content_hash(done.student), card.read_text()
    card.write_text(told + "more")
    assert content_hash(done.student) == before
    assert verify_student(done.student, settings["base"]).name == done.name
    card.write_text(told)


def test_full_weights_scores_and_reasons_are_told(settings: dict[str, Any]) -> None:
    data = read_card(settings["dataset"]).model_copy(update={"trajectories": {"read": 5, "kept": 2, "wrong answer": 3}})
    card = ModelCard(model_card(taught(data)))
    assert card.data.library_name == "transformers"
    assert "lora" not in card.data.tags
    for words in ("| wrong answer | 3 |", "| em | 0.5000 |", "--model local:STUDENT ", "and BASE that of its base"):
        assert words in card.text
    assert "/home/me" not in card.content


@pytest.mark.parametrize("text", ["a|b\nc", "`x`\x1b[2J", "---\nlibrary_name: evil\n---", '"quoted": {x}', "<script>"])
def test_names_of_others_make_no_markup(settings: dict[str, Any], text: str) -> None:
    data = read_card(settings["dataset"])
    data = data.model_copy(update={"trajectories": {"read": 1, "kept": 1, text: 1}})
    card = ModelCard(model_card(taught(data, base=Path("x") / text.replace("/", "-"), warnings=[text])))
    assert card.data.library_name == "transformers"
    assert card.data.base_model == text.replace("/", "-")
    assert "\x1b" not in card.text
    assert "<script>" not in card.text
    assert next(line for line in card.text.splitlines() if line.endswith("| 1 |")).count(" | ") == 1


def test_a_merged_student_says_what_base_and_adapter_say(done: Distilled, settings: dict[str, Any], tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    from steper_agent.models.engine import Engine
    from steper_agent.models.local import LocalChatModel

    assert distill.main(["merge", "--student", str(done.student), "--out", str(tmp_path / "whole")]) == 0
    assert "relative difference" in capsys.readouterr().out
    card = verify_student(tmp_path / "whole", settings["base"])
    assert card.form == "full"
    assert card.name != done.name
    assert not list(tmp_path.glob("whole/*.bin"))
    assert not list(tmp_path.glob(".whole*")), "nothing is left of the making"
    told = ModelCard.load(tmp_path / "whole" / "README.md")
    assert told.data.library_name == "transformers"
    assert card.name in told.text
    for words in ("It was made as a LoRA adapter on `base`", "--model local:STUDENT ", "and BASE that of its base", "kind | loss at the end", *done.warnings):
        assert words in told.text
    for words in ("A LoRA adapter", "BASE+STUDENT", ".png"):
        assert words not in told.text
    engine = Engine(tmp_path / "whole", dtype=torch.float32)
    try:
        check_golden(LocalChatModel(path=str(tmp_path / "whole"), engine=engine), read_golden(done.student), "merged")
    finally:
        engine.close()


def test_what_cannot_be_merged_is_refused_and_leaves_nothing(
    done: Distilled, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="something here already"):
        merge(MergeConfig(student=done.student, out=tmp_path))
    out = tmp_path / "out"
    alone = Path(shutil.copytree(done.student, tmp_path / "elsewhere" / "student"))
    with pytest.raises(ConfigError, match=r"no report beside(.|\n)*--base"):
        merge(MergeConfig(student=alone, out=out))
    with pytest.raises(AdapterError, match="another base"):
        merge(MergeConfig(student=alone, out=out, base=tiny_base(tmp_path / "other", seed=3, window=4096)))
    (alone / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match="merged already"):
        merge(MergeConfig(student=alone, out=out, base=settings["base"]))
    monkeypatch.setattr(merge_student, "_compare", lambda *_: (10, 0.1))
    with pytest.raises(AdapterError, match=r"logits differ by 1\.0e-01"):
        merge(MergeConfig(student=done.student, out=out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "other"]


def test_too_little_disk_for_a_merged_student_is_told_of_the_merged_student(
    done: Distilled, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = settings["out"] / "whole"
    assert list(settings["out"].glob("checkpoint-*")), "a merge frees none of what lies beside it"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**6, 10**6 - 1000, 1000))
    with pytest.raises(DiskFull, match=r"the merged model need .* and 1\.0 kB are free") as caught:
        merge(MergeConfig(student=done.student, out=out))
    assert "lora" not in str(caught.value)
    assert not out.exists()


def test_logits_are_compared_and_not_taken_on_trust(settings: dict[str, Any], done: Distilled, tmp_path: Path) -> None:
    other = tiny_adapter(settings["base"], tmp_path / "other")
    goldens = read_golden(done.student)
    adapter = merge_student._logits(settings["base"], done.student, goldens)
    assert max(float((one - two).norm() / one.norm()) for one, two in zip(adapter, merge_student._logits(settings["base"], other, goldens), strict=True)) > 0.01
