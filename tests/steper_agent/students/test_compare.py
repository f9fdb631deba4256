"""A difference agrees with the deltas multiplied out, and names what the cards say differently."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from steper_agent.students.compare import compare
from steper_agent.students.student import read_card, save_student
from steper_agent.students.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tests.steper_agent.students.conftest import Made
from tests.steper_agent.students.registries import of_other_base, reweighed
from tests.tiny import tiny_adapter


def deltas(base: Path, student: Path) -> dict[str, torch.Tensor]:
    """What PEFT itself adds to each weight, multiplied out."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(student))
    return {name.removeprefix("base_model.model."): module.get_delta_weight("default").double()
            for name, module in model.named_modules() if hasattr(module, "lora_A")}


def reconfigured(student: Path, folder: Path, **options: object) -> Path:
    reweighed(student, folder, 1.0)
    file = folder / ADAPTER_CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **options}))
    save_student(folder, read_card(student))
    return folder


@pytest.mark.parametrize("options", [
    {}, {"use_rslora": True}, {"lora_alpha": 3}, {"alpha_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 5}},
])  # fmt: skip
def test_changes_agree_with_the_deltas_multiplied_out(made: Made, tmp_path: Path, options: dict[str, object]) -> None:
    a, b = made.students[0], reconfigured(tiny_adapter(made.base, tmp_path / "raw", 7), tmp_path / "b", **options)
    one, other = deltas(made.base, a), deltas(made.base, b)
    expected = {name: float(torch.linalg.norm(other[name] - one[name]) / torch.linalg.norm(one[name])) for name in one}
    found = compare(a, b).modules
    assert {each.module: each.change for each in found} == pytest.approx(expected, rel=1e-5)
    assert found == tuple(sorted(found, key=lambda each: -each.change))


def test_doubling_is_a_change_of_one_and_the_same_is_none(made: Made) -> None:
    a, b = made.students[:2]
    assert {round(each.change, 9) for each in compare(a, b).modules} == {1.0}
    assert {round(each.change, 9) for each in compare(b, a).modules} == {0.5}
    assert all(each.change < 1e-12 for each in compare(a, a).modules)


def test_a_module_that_only_one_adapts_is_new_or_gone(made: Made, tmp_path: Path) -> None:
    a, b = made.students[0], reweighed(made.students[0], tmp_path / "b", 1.0)
    tensors = {name: tensor for name, tensor in load_file(b / ADAPTER_WEIGHTS).items() if "layers.0.self_attn.q_proj" not in name}
    save_file(tensors, b / ADAPTER_WEIGHTS)
    save_student(b, read_card(b))
    gone, new = compare(a, b).modules[0], compare(b, a).modules[0]
    assert gone.module == new.module == "model.layers.0.self_attn.q_proj"
    assert (gone.change, new.change) == (pytest.approx(1.0), math.inf)


def test_cards_differ_by_name_and_other_bases_weights_are_not_compared(made: Made, tmp_path: Path) -> None:
    other = of_other_base(made.students[0], tmp_path / "other")
    assert compare(made.students[0], made.students[1]).facts == ()
    found = compare(made.students[0], other)
    assert [fact.name for fact in found.facts] == ["base"]
    assert found.modules == ()
