"""The embedded world: its language, its questions, the symbolic teacher, and a base that reads."""

from pathlib import Path

BASE = Path(__file__).parent / "base"
"""The pre-trained base model that comes with the package."""
