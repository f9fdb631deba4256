from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steper_agent.errors import AdapterError, ModelError
from steper_agent.students.fingerprint import base_fingerprint
from steper_agent.students.student import CARD, check_student, content_hash, read_card, save_student, verify_student
from steper_agent.students.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Limits
from tests.tiny import tiny_adapter, tiny_base, tiny_card


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_adapter(base, tmp_path_factory.mktemp("student"), 1)


@pytest.fixture
def student(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "student"))


def test_what_is_saved_is_verified(base: Path, student: Path) -> None:
    card = verify_student(student, base)
    assert card == read_card(student)
    assert card.name == f"student@{content_hash(student)[:12]}"


def test_the_name_does_not_depend_on_the_folder_or_on_peft_s_set_order(base: Path, student: Path) -> None:
    before = content_hash(student)
    config = json.loads((student / ADAPTER_CONFIG).read_text())
    config["base_model_name_or_path"] = "/somewhere/else"
    config["target_modules"] = config["target_modules"][::-1]
    (student / ADAPTER_CONFIG).write_text(json.dumps(config))
    assert save_student(student, tiny_card(base)).content == before


def test_a_fingerprint_changes_with_weights_tokenizer_and_shape_and_with_nothing_else(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "a", 0)
    same = tiny_base(tmp_path / "b", 0)
    assert base_fingerprint(folder) == base_fingerprint(same)
    assert base_fingerprint(tiny_base(tmp_path / "c", 1)) != base_fingerprint(folder)
    (same / "README.md").write_text("a word")
    assert base_fingerprint(same) == base_fingerprint(folder)
    (same / "tokenizer.json").write_text("{}")
    assert base_fingerprint(same) != base_fingerprint(folder)
    with pytest.raises(ModelError, match="no such model folder"):
        base_fingerprint(tmp_path / "nothing")


def reweigh(student: Path, base: Path, change: Any) -> None:
    """Change the weights and write an honest card for them: only the weights are wrong then."""
    tensors = load_file(student / ADAPTER_WEIGHTS)
    change(tensors)
    save_file(tensors, student / ADAPTER_WEIGHTS)
    save_student(student, tiny_card(base))


def reconfigure(student: Path, base: Path, **options: Any) -> None:
    config = json.loads((student / ADAPTER_CONFIG).read_text())
    (student / ADAPTER_CONFIG).write_text(json.dumps({**config, **options}))
    save_student(student, tiny_card(base))


def tamper(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"!")


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Q9 = Q.replace(".0.", ".9.")
SPOILT = {
    "no card": (lambda s, _: (s / CARD).unlink(), "no student card"),
    "half a card": (lambda s, _: (s / CARD).write_text("{"), "damaged"),
    "no weights": (lambda s, _: (s / ADAPTER_WEIGHTS).unlink(), "missing"),
    "pickle": (lambda s, _: (s / "adapter_model.bin").write_bytes(b"x"), "pickle"),
    "link": (lambda s, _: (s / "more.json").symlink_to(s / CARD), "links"),
    "tampered": (lambda s, _: tamper(s / ADAPTER_WEIGHTS), "content"),
    "nan": (lambda s, b: reweigh(s, b, lambda t: t[Q].fill_(float("nan"))), "NaN"),
    "wrong shape": (lambda s, b: reweigh(s, b, lambda t: t.update({Q: torch.zeros(4, 33)})), "another base"),
    "wrong rank": (lambda s, b: reweigh(s, b, lambda t: t.update({Q: torch.zeros(5, 32)})), "rank"),
    "half a pair": (lambda s, b: reweigh(s, b, lambda t: t.pop(Q)), "lacks one"),
    "no such layer": (lambda s, b: reweigh(s, b, lambda t: t.update({Q9: t[Q].clone()})), "no module"),
    "foreign tensor": (lambda s, b: reweigh(s, b, lambda t: t.update(extra=torch.zeros(1))), "not a LoRA matrix"),
    "no tensors": (lambda s, b: reweigh(s, b, lambda t: t.clear()), "no tensors"),
    "code import": (lambda s, b: reconfigure(s, b, megatron_config={"a": 1}, megatron_core="os"), "megatron_config"),
    "rewrites base": (lambda s, b: reconfigure(s, b, init_lora_weights="pissa"), "init_lora_weights"),
    "DoRA": (lambda s, b: reconfigure(s, b, use_dora=True), "use_dora"),
    "whole modules": (lambda s, b: reconfigure(s, b, modules_to_save=["lm_head"]), "modules_to_save"),
    "endless scale": (lambda s, b: reconfigure(s, b, lora_alpha=float("inf")), "scale is no number"),
    "boundless scale": (lambda s, b: reconfigure(s, b, lora_alpha=10**400), "scale is no number"),
    "no rank": (lambda s, b: reconfigure(s, b, r=None), "rank or scale"),
    "unnamed module": (lambda s, b: reconfigure(s, b, target_modules=["q_proj", "v_proj"]), "down_proj` is not among"),
    "not lora": (lambda s, b: reconfigure(s, b, peft_type="IA3"), "not a LoRA"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_student_is_refused(student: Path, base: Path, spoil: str) -> None:
    change, says = SPOILT[spoil]
    change(student, base)
    with pytest.raises(AdapterError, match=says) as caught:
        verify_student(student, base)
    assert caught.value.fix


NEEDS_NO_BASE = SPOILT.keys() - {"wrong shape", "no such layer"}


@pytest.mark.parametrize("spoil", sorted(NEEDS_NO_BASE))
def test_what_a_student_alone_shows_is_refused_without_its_base(student: Path, base: Path, spoil: str) -> None:
    assert check_student(student) == verify_student(student, base)
    change, says = SPOILT[spoil]
    change(student, base)
    with pytest.raises(AdapterError, match=says):
        check_student(student)


@pytest.mark.parametrize(("limits", "options", "says"), [
    (Limits(3), {}, r"rank 4 is more than the server's 3\n.*\n.*--max-lora-rank"),
    (Limits(8, frozenset({"q_proj", "v_proj"})), {}, r"cannot adapt `model\.layers\.0\.mlp\.down_proj`"),
    (Limits(8), {"alpha_pattern": {"q_proj": 2}}, "takes no alpha_pattern"),
    (Limits(8), {"rank_pattern": {"q_proj": 4}}, "takes no rank_pattern"),
])  # fmt: skip
def test_what_a_server_cannot_take_is_refused_before_it_sees_it(
    student: Path, base: Path, limits: Limits, options: dict[str, Any], says: str
) -> None:
    reconfigure(student, base, **options)
    verify_student(student, base)
    with pytest.raises(AdapterError, match=says):
        verify_student(student, base, limits=limits)


def test_what_a_server_can_take_passes(student: Path, base: Path) -> None:
    verify_student(student, base, limits=Limits(4, frozenset({"q_proj", "v_proj", "down_proj", "o_proj"})))


def test_a_student_of_another_base_is_refused(student: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="another base"):
        verify_student(student, tiny_base(tmp_path / "other", 9))
    with pytest.raises(AdapterError, match="no such student folder"):
        verify_student(tmp_path / "nothing", tmp_path)
