"""`local:PATH`, `openai:NAME`, …: one line of text names any model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steper_agent.errors import DependencyError, ModelError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

FORMS = (
    "local:PATH (local:models/qwen), local:PATH+STUDENT (local:models/qwen+runs/demo/student), vllm:PATH and "
    "vllm:PATH+STUDENT (starts a vLLM server), vllm:PATH@URL (asks one that runs; of several, "
    "with commas, most must have a student), "
    "or PROVIDER:NAME as LangChain knows it (openai:gpt-4o-mini, anthropic:claude-sonnet-4-5)"
)
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


def open_model(
    spec: str, *, temperature: float = 0.0, max_tokens: int = 256, seed: int = 0, students: Sequence[Path] = ()
) -> BaseChatModel:
    """The chat model a spec names, ready to answer. `seed` reaches local and OpenAI models; `students` are the folders that
    a vLLM server started here may load adapters from."""
    provider, colon, name = spec.partition(":")
    if not colon or not provider or not name:
        raise ModelError(f"not a model spec: `{spec}`", where="--model", fix=f"write {FORMS}")
    if provider == "vllm":
        return _served(name, students, temperature=temperature, max_tokens=max_tokens, seed=seed)
    if provider == "local":
        from steper_agent.models.local import LocalChatModel

        path, adapter = split_local(name)
        return LocalChatModel(path=path, adapter=adapter, temperature=temperature, max_tokens=max_tokens, seed=seed)
    return _remote(spec, provider, temperature, max_tokens, seed)


def split_local(name: str) -> tuple[str, str | None]:
    """PATH or PATH+STUDENT: divided at the last plus sign, unless the whole is a folder."""
    path, plus, adapter = name.rpartition("+")
    return (name, None) if Path(name).is_dir() or not (plus and path and adapter) else (path, adapter)


def _served(name: str, students: Sequence[Path], **decoding: Any) -> BaseChatModel:
    """`PATH[+STUDENT]` starts a server, `PATH[+STUDENT]@URL[,URL…]` asks those that run."""
    from steper_agent.vllm.model import VllmChatModel
    from steper_agent.vllm.served_base import attach_base, start_base

    local, at, url = name.partition("@http")
    path, adapter = split_local(local)
    folders = (*students, *([Path(adapter).resolve().parent] if adapter else []))
    base = attach_base(Path(path), *f"http{url}".split(",")) if at else start_base(Path(path), folders)
    return VllmChatModel(path=path, base=base, adapter=adapter, **decoding)


def _remote(spec: str, provider: str, temperature: float, max_tokens: int, seed: int) -> BaseChatModel:
    key = KEYS.get(provider)
    if key and not os.environ.get(key):
        raise ModelError(
            f"{provider} wants a key", where=f"--model {spec}", fix=f"set {key} (any text for a local server)"
        )
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as missing:
        raise DependencyError(
            "langchain is not installed", where=f"--model {spec}", fix="pip install 'steper-agent[langchain]'"
        ) from missing
    extra: dict[str, Any] = {"seed": seed} if provider == "openai" else {}
    try:
        model: BaseChatModel = init_chat_model(spec, temperature=temperature, max_tokens=max_tokens, **extra)
    except ImportError as missing:
        package = f"langchain-{provider.replace('_', '-')}"
        raise DependencyError(
            f"{provider} models need {package}", where=f"--model {spec}", fix=f"pip install {package}"
        ) from missing
    except ValueError as unknown:
        why = str(unknown).splitlines()[0]
        raise ModelError(f"not a model spec: `{spec}`: {why}", where="--model", fix=f"write {FORMS}") from unknown
    return model
