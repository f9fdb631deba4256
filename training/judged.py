"""An evaluation that is read where it is finished and made where it is not, and whether two of them compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from steper_agent.errors import ConfigError
from steper_agent.retrieval import open_retriever
from training.evaluate import EvaluateConfig, Report, evaluate, gold_digest, questions_digest, questions_of
from training.evaluation import Verdict

DIFFER = ("strategy", "prompts", "model")
"""What the evaluations of two methods may differ in, for that is what is compared. All else in their recipes must be equal."""


class Judged(NamedTuple):
    report: Report
    verdicts: list[Verdict]
    """In the order of the questions' ids."""


def judged(config: EvaluateConfig, model: str = "", *, again: bool = True) -> Judged:
    """The report on these very questions, and every question's verdict. `model`: the version that must have answered. `again`:
    questions that failed are asked once more, for a provider's bad hour is no judgement of a model.

    Raises:
        ConfigError: the folder holds an evaluation of another model, over another index or with other settings.
    """
    found = held(config, model)
    if found is None or (again and found.report.evaluation.failures["error"]):
        report = evaluate(config)
        found = Judged(report, _verdicts(config.out) or [])
    return found


def held(config: EvaluateConfig, model: str = "") -> Judged | None:
    """What is there, questions that failed included; None where something is missing, or what it rests on has changed."""
    if not (config.out / "report.json").is_file():
        return None
    asked = questions_of(config)
    report, verdicts = Report.model_validate_json((config.out / "report.json").read_bytes()), _verdicts(config.out)
    if verdicts is None:
        return None
    recipe = report.recipe
    wanted = (model or report.model, open_retriever(config.index).digest, questions_digest(asked), config.metrics, gold_digest(config), {one.id for one in asked})
    found = (report.model, recipe.get("index"), recipe.get("questions"), recipe.get("metrics"), recipe.get("gold"), {one.id for one in verdicts})
    # Reports from before the spec was written down have the judge's version alone.
    is_marked = config.judge in ("", report.judge_spec) or (bool(report.judge) and not report.judge_spec)
    return Judged(report, verdicts) if found == wanted and is_marked else None


def same_recipe(reports: Mapping[str, Report], *, where: Path, differ: Sequence[str] = DIFFER) -> dict[str, Any]:
    """What all of them, by name, were judged with.

    Raises:
        ConfigError: two were judged with different things, but for those in `differ`.
    """
    (first, report), *others = reports.items()
    same = _kept(report, differ)
    for name, other in others:
        their = _kept(other, differ)
        if found := next((key for key in sorted(same | their) if same.get(key) != their.get(key)), None):
            raise ConfigError(f"{name} and {first} were judged with another `{found}`: they do not compare", where=where,
                              fix="have all judged anew: give another --out, or remove the folder of the older evaluation")
    return same


def _kept(report: Report, differ: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in report.recipe.items() if key not in differ}


def _verdicts(folder: Path) -> list[Verdict] | None:
    """None where they are missing or damaged."""
    try:
        # As bytes: a question may hold what `str.splitlines` takes for the end of a line.
        with (folder / "predictions.jsonl").open("rb") as lines:
            return sorted(map(Verdict.model_validate_json, lines), key=lambda one: one.id)
    except (FileNotFoundError, ValidationError):
        return None
