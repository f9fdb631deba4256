"""Where else a run's figures go: TensorBoard and Weights & Biases, by the Trainer's own switch."""

from __future__ import annotations

from importlib.util import find_spec

from steper_agent.errors import ConfigError, DependencyError

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
"""Name → packages of which one is needed."""


def reporters(text: str) -> list[str]:
    """The names in `none`, `tensorboard`, `wandb` or `tensorboard,wandb`.

    Raises:
        ConfigError: another name.
        DependencyError: its package is not installed.
    """
    names = [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
    for name in names:
        if name not in PACKAGES:
            raise ConfigError(f"unknown reporter `{name}`", where="report_to", fix=f"none, {', '.join(PACKAGES)}, or several parted by a comma")
        if not any(find_spec(package) for package in PACKAGES[name]):
            raise DependencyError(f"{name} is not installed", where="report_to", fix=f"pip install {PACKAGES[name][0]}, or leave --report-to out")
    return list(dict.fromkeys(names))
