"""How a training run went, one JSON line an update, append-only; a resumed run forgets what it will do again."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from steper_agent.durable import write_lines
from steper_agent.errors import DataError
from steper_agent.records import Kind, Record


class CurvePoint(Record):
    step: int
    """Optimizer updates done, this one included."""
    seconds: float
    """Wall clock spent in training so far."""
    tokens: int
    """Tokens trained on so far, padding left out."""
    rate: float
    """Learning rate of this update."""
    loss: dict[Kind, float]
    """L of each kind the batch held (training.objective), in nats."""
    sigma: dict[Kind, float]
    """σ of every kind after this update."""


class Curve:
    """The file `curve.jsonl` of a run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, point: CurvePoint) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(point.model_dump_json() + "\n")

    def keep_until(self, step: int) -> None:
        """Drop the points after `step`: the checkpoint that training goes on from knows nothing of them."""
        write_lines(self.path, [point for point in self.read() if point.step <= step])

    def read(self) -> list[CurvePoint]:
        """Every whole line; a half-written last one is left out.

        Raises:
            DataError: a whole line is no point of a curve.
        """
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        points = []
        for number, line in enumerate(lines, start=1):
            if not line.endswith("\n"):
                break
            try:
                points.append(CurvePoint.model_validate_json(line))
            except ValidationError as bad:
                raise DataError(f"not a point of a curve: {bad.errors()[0]['msg']}", where=f"{self.path}:{number}",
                                fix="remove the line") from bad
        return points
