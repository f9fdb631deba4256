"""The graph as LangGraph's development server asks for it: set up by the environment, set anew by a run's context."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from graphs.studio import Settings, stepwise
from steper_agent.errors import ConfigError
from steper_agent.retrieval import build_index
from tests.fakes import Script

ROOT = Path(__file__).resolve().parents[2]
QUESTION = {"question": "When was the author of Emma born?"}
OPTIONAL = ("STEPER_STRATEGY", "STEPER_K", "STEPER_STEPS")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An index and a scripted model in place of the provider's, and nothing else set."""
    lines = [{"id": name, "title": name, "text": f"About {name} and Emma."} for name in ("Emma", "Austen")]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "index")
    for name in OPTIONAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STEPER_INDEX", str(tmp_path / "index"))
    monkeypatch.setenv("STEPER_MODEL", "openai:x")
    monkeypatch.setattr("graphs.studio.open_model", lambda _spec: Script(lines=("Hm.",) * 9))
    return monkeypatch


def ask(**context: Any) -> dict[str, Any]:
    """As the server does: the run's context goes to the factory among the configurable values, and to the graph as it is."""
    graph = stepwise({"configurable": {**context, "__is_for_execution__": True}})
    return graph.invoke(QUESTION, context=context)  # type: ignore[arg-type]


@pytest.mark.usefixtures("environment")
def test_the_graph_answers_and_the_context_of_a_run_says_how() -> None:
    state = ask()
    assert (state["stop"], len(state["steps"]), len(state["steps"][0]["hits"])) == ("budget", 5, 2)
    state = ask(steps=2, k=1)
    assert (state["stop"], len(state["steps"]), len(state["steps"][0]["hits"])) == ("budget", 2, 1)


def test_the_environment_sets_what_a_run_leaves_out(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("STEPER_STRATEGY", "single_step")
    environment.setenv("STEPER_K", "1")
    environment.setenv("STEPER_STEPS", "3")
    assert Settings(steps=2) == Settings(strategy="single_step", k=1, steps=2, approve=False)
    assert len(ask()["steps"][0]["hits"]) == 1


@pytest.mark.usefixtures("environment")
def test_everything_it_takes_and_gives_has_a_schema() -> None:
    graph = stepwise({})
    assert set(graph.get_context_jsonschema()["properties"]) == set(Settings.model_fields)  # type: ignore[index]
    assert graph.get_input_jsonschema()["required"] == ["question"]
    assert graph.get_output_jsonschema()["properties"]["answer"]["type"] == "string"
    assert [node for node in graph.get_graph().nodes if "_" not in node[:1]] == ["begin", "form_query", "retrieve", "reason", "answer"]


@pytest.mark.parametrize("name", ["STEPER_INDEX", "STEPER_MODEL"])
def test_what_is_not_set_is_named(name: str, environment: pytest.MonkeyPatch) -> None:
    environment.delenv(name)
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        stepwise({})


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5"])
def test_what_is_no_number_is_named(text: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("STEPER_K", text)
    with pytest.raises(ConfigError, match=f"STEPER_K is `{text}`"):
        stepwise({})


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("context", "told"), [({"k": 0}, "greater than"), ({"strategy": "guess"}, "one of: ircot, ")])
def test_a_run_that_asks_for_what_there_is_not_is_told(context: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        stepwise({"configurable": context})


def test_langgraph_json_names_it() -> None:
    path, _, name = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["stepwise"].partition(":")
    spec = importlib.util.spec_from_file_location("studio", ROOT / path)
    assert spec is not None
    assert (ROOT / path).samefile(str(spec.origin))
    assert name == stepwise.__name__
