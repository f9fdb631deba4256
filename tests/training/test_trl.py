"""The same rows and masks cost what they cost in TRL's SFTTrainer."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from steper_agent.records import Example
from tests.tiny import tiny_tokenizer
from tests.training.samples import random_examples, small_model
from training.loop.losses import token_losses
from training.objective import sum_by_kind
from training.trees.pieces import row_piece


@pytest.fixture(scope="module")
def trl() -> Any:
    with warnings.catch_warnings():
        # Of packages it brings.
        warnings.simplefilter("ignore")
        import trl

        return trl


@pytest.mark.filterwarnings("ignore")
def test_a_row_s_loss_and_gradients_are_those_of_sft_trainer(trl: Any, tmp_path: Path) -> None:
    examples = random_examples(3, count=6)
    rows = [{"input_ids": list(e.ids), "labels": [id if learn else -100 for id, learn in zip(e.ids, e.learn, strict=True)]} for e in examples]
    told = trl.SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", max_length=None, per_device_train_batch_size=1, bf16=False,
                         gradient_checkpointing=False)  # fmt: skip
    theirs = trl.SFTTrainer(small_model("llama"), told, train_dataset=Dataset.from_list(rows), processing_class=tiny_tokenizer())
    ours = small_model("llama")
    for number, example in enumerate(examples):
        theirs.model.zero_grad()
        expected = theirs.compute_loss(theirs.model, theirs.data_collator([rows[number]]))
        expected.backward()
        loss = loss_of(ours, example)
        assert math.isclose(float(loss), float(expected), rel_tol=1e-5)
        gradients = dict(theirs.model.named_parameters())
        for name, weight in ours.named_parameters():
            torch.testing.assert_close(weight.grad, gradients[name].grad, rtol=1e-4, atol=1e-6)


def loss_of(model: Any, example: Example) -> torch.Tensor:
    model.zero_grad()
    piece = row_piece([example], pad=0)
    loss = sum_by_kind(token_losses(model, model.get_output_embeddings(), piece)[0], piece.weights).sum()
    loss.backward()
    return loss.detach()
