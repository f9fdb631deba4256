"""A student on disk: a folder of weights and a card, named by the hash of its content and checked before it is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from steper_agent.durable import digest_file, write_atomic
from steper_agent.errors import AdapterError
from steper_agent.records import Golden, StudentCard
from steper_agent.students import weights
from steper_agent.students.fingerprint import base_fingerprint
from steper_agent.students.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS

CARD, GOLDEN = "student.json", "golden.jsonl"
FULL = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt",
)  # fmt: skip
"""Besides the weights, everything in a full student's folder that changes what it says."""

PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def save_student(folder: str | Path, card: StudentCard) -> StudentCard:
    """Write the card beside saved weights, last of all; name and content are filled in here.

    An adapter's config is first put into canonical form: PEFT writes this machine's path to the base and a set in
    arbitrary order into it, and equal students must have equal names.
    """
    folder = Path(folder)
    if card.form == "adapter":
        _canonical_config(folder / ADAPTER_CONFIG)
    content = content_hash(folder)
    card = card.model_copy(update={"content": content, "name": f"student@{content[:12]}"})
    write_atomic(folder / CARD, card.model_dump_json(indent=2) + "\n")
    return card


def read_card(folder: str | Path) -> StudentCard:
    """The card of a student's folder."""
    file = Path(folder) / CARD
    try:
        return StudentCard.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise AdapterError(
            "no student card: not a student's folder", where=file, fix="give the folder that `distill` wrote"
        ) from missing
    except (ValidationError, UnicodeDecodeError) as broken:
        raise AdapterError("the student card is damaged", where=file, fix="copy the whole folder again") from broken


def read_golden(folder: Path) -> list[Golden]:
    """Empty for a student that has none.

    Raises:
        AdapterError: the file is damaged.
    """
    file = folder / GOLDEN
    if not file.is_file():
        return []
    goldens = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            goldens.append(Golden.model_validate_json(line))
        except ValidationError as broken:
            raise AdapterError("not a golden reply", where=f"{file}:{number}", fix="copy the student again") from broken
    return goldens


def student_files(folder: str | Path) -> list[str]:
    """Names of the files that make the student what it is, sorted; the card is not one of them."""
    folder = Path(folder)
    golden = [GOLDEN] if (folder / GOLDEN).is_file() else []
    if (folder / ADAPTER_CONFIG).is_file():
        return sorted([ADAPTER_CONFIG, ADAPTER_WEIGHTS, *golden])
    full = (name for name in FULL if (folder / name).is_file())
    return sorted([*full, *golden, *(file.name for file in folder.glob("*.safetensors"))])


def content_hash(folder: str | Path) -> str:
    """SHA-256 over names and bytes of the student's files."""
    folder = Path(folder)
    names = student_files(folder)
    total = hashlib.sha256()
    for name in names:
        if not (folder / name).is_file():
            raise AdapterError(f"{name} is missing", where=folder, fix="save the student's weights as safetensors")
        total.update(f"{name}\0{digest_file(folder / name)}\n".encode())
    if not any(name.endswith(".safetensors") for name in names):
        raise AdapterError("no safetensors weights here", where=folder, fix="save the student's weights as safetensors")
    return total.hexdigest()


def check_student(folder: str | Path) -> StudentCard:
    """Refuse a student that is incomplete, altered or unsafe, whatever its base; return its card."""
    card = _honest_card(Path(folder))
    _check_weights(Path(folder), card, None, None)
    return card


def verify_student(
    folder: str | Path, base: str | Path, *, fingerprint: str | None = None, shapes: weights.Shapes | None = None,
    limits: weights.Limits | None = None,
) -> StudentCard:  # fmt: skip
    """Refuse a student that is incomplete, altered, unsafe or made for another base; return its card.

    `fingerprint` and `shapes` of the base may be given where they are known, so that its weights are not read again;
    `limits` are those of the engine that is to serve an adapter.
    """
    folder = Path(folder)
    card = _honest_card(folder)
    if card.base != (fingerprint or base_fingerprint(base)):
        raise AdapterError(
            "made for another base", where=folder, fix=f"use the base with fingerprint {card.base[:12]}, not {base}"
        )
    _check_weights(folder, card, weights.base_shapes(base) if shapes is None else shapes, limits)
    return card


def _honest_card(folder: Path) -> StudentCard:
    """The card of a folder that holds neither links nor pickles, exactly the content the card names, and golden replies that can
    be read."""
    if not folder.is_dir():
        raise AdapterError("no such student folder", where=folder, fix="give the folder that `distill` wrote")
    for file in sorted(folder.rglob("*")):
        if file.is_symlink():
            raise AdapterError("a student's folder holds no links", where=file, fix="copy the file itself")
        if file.suffix in PICKLED and file.parent == folder:
            raise AdapterError("pickled weights can run code", where=file, fix="save as safetensors, delete this file")
    card = read_card(folder)
    found = content_hash(folder)
    if found != card.content or card.name != f"student@{found[:12]}":
        raise AdapterError(
            f"content is {found[:12]}, the card says {card.content[:12]}", where=folder,
            fix="the files were changed after saving: copy the student again",
        )  # fmt: skip
    read_golden(folder)
    return card


def _check_weights(folder: Path, card: StudentCard, shapes: weights.Shapes | None, limits: weights.Limits | None) -> None:
    if card.form == "adapter":
        weights.check_adapter(folder, shapes, limits)
    else:
        weights.check_full(folder, shapes)


def _canonical_config(file: Path) -> None:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as broken:
        raise AdapterError("the adapter's config cannot be read", where=file, fix="save the adapter again") from broken
    config["base_model_name_or_path"] = None
    for name in ("target_modules", "exclude_modules"):
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    write_atomic(file, json.dumps(config, indent=2, sort_keys=True) + "\n")
