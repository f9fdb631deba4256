"""An adapter added into a copy of its base: for engines and machines where adapters cost too much."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from steper_agent.errors import AdapterError
from steper_agent.students.student import read_card
from steper_agent.students.weights import ADAPTER_CONFIG


def merged_folder(base: str | Path, student: str | Path, cache: Path | None = None) -> Path:
    """A model folder that says what the base with this student says, made on first use.

    In float32, so that nothing is lost but the last bits of the sum. Kept by base and content under `cache`, by
    default the temporary files of this machine; written beside and renamed, so a killed process leaves no half of one.

    Raises:
        AdapterError: the student is no adapter, or does not fit.
    """
    student = Path(student)
    if not (student / ADAPTER_CONFIG).is_file():
        raise AdapterError("full weights are merged already", where=student, fix="serve the folder itself")
    root = cache or Path(tempfile.gettempdir()) / f"steper-merged-{os.getuid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise AdapterError("the folder for merged students is another user's", where=root, fix="set TMPDIR to one of yours")
    card = read_card(student)
    made = root / f"{card.base[:16]}-{card.content}"
    if not made.is_dir():
        beside = Path(tempfile.mkdtemp(dir=root, prefix=".merging-"))
        try:
            _merge(Path(base), student, beside)
            beside.rename(made)
        except OSError:
            # Another process was quicker, and made the same.
            if not made.is_dir():
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return made


def _merge(base: Path, student: Path, out: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from steper_agent.models.loading import open_tokenizer

    model = AutoModelForCausalLM.from_pretrained(str(base), dtype="float32", local_files_only=True, trust_remote_code=False,
                                                 use_safetensors=True)  # fmt: skip
    merged = PeftModel.from_pretrained(model, str(student)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(str(out))
    open_tokenizer(base).save_pretrained(str(out))
