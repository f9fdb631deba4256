from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from graphs.run import Context
from steper_agent.errors import AdapterError, DataError
from steper_agent.models.slot import ModelSlot
from steper_agent.records import Question
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from training.gate import GateReport, compare, gate_of


@pytest.fixture
def retriever(tmp_path: Path) -> IndexRetriever:
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "title": "X", "text": "X was directed by Y."}\n')
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "index")
    return open_index(tmp_path / "index")


QUESTIONS = [Question(id=str(number), text=f"Who directed {number}?", answers=("Y",)) for number in range(10)]


class Knowing(BaseChatModel):
    """Answers some questions rightly and all others wrongly."""

    right: frozenset[str]

    @property
    def _llm_type(self) -> str:
        return "knowing"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager, kwargs
        prompt = "".join(message.text for message in messages)
        known = any(f"directed {one}?" in prompt for one in self.right)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(f"It was so. So the answer is: {'Y' if known else 'Z'}."))])


def saying(right: set[str]) -> Knowing:
    return Knowing(right=frozenset(right))


def test_the_gate_compares_question_by_question(retriever: IndexRetriever) -> None:
    context = Context(model=saying(set()), retriever=retriever)
    four, six = saying(set("0123")), saying(set("012345"))
    report = compare(four, six, context, QUESTIONS, min_delta=-1.0)
    assert (report.n, report.before, report.after, report.failed) == (10, 40.0, 60.0, 0)
    assert report.delta == pytest.approx(20.0)
    assert report.interval[0] >= 0, "no pair speaks against it"
    assert report.is_passed
    back = compare(six, four, context, QUESTIONS, min_delta=-1.0)
    assert (back.delta, back.is_passed) == (-report.delta, False)
    assert compare(six, four, context, QUESTIONS, min_delta=-20.0).is_passed


def test_a_swap_is_stopped_at_the_gate_and_tells_the_figures(retriever: IndexRetriever) -> None:
    incumbent, worse = saying(set("0123456789")), saying(set("01"))
    seen: list[GateReport] = []
    slot = ModelSlot(incumbent, version="incumbent")
    gate = gate_of(incumbent, Context(model=incumbent, retriever=retriever), QUESTIONS, min_delta=-1.0, on_report=seen.append)
    report = slot.swap(lambda: worse, trials=[("gate", gate)], version="worse")
    assert (report.ok, slot.current) == (False, "incumbent")
    assert "EM 100.0 → 20.0" in report.reason
    assert "--min-delta" in report.reason
    assert len(seen) == 1
    assert slot.swap(lambda: saying(set("0123456789")), trials=[("gate", gate)], version="as good").ok


def test_questions_without_answers_judge_nobody(retriever: IndexRetriever) -> None:
    with pytest.raises(DataError):
        compare(saying(set()), saying(set()), Context(model=saying(set()), retriever=retriever), [Question(id="q", text="Who?")], min_delta=0)


def test_what_falls_short_is_an_error_that_says_what_to_do(retriever: IndexRetriever) -> None:
    gate = gate_of(saying(set("01")), Context(model=saying(set()), retriever=retriever), QUESTIONS, min_delta=5.0)
    with pytest.raises(AdapterError, match="falls short"):
        gate(saying(set("01")))
