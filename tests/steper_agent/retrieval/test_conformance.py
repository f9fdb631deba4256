"""LangChain's own suite for retrievers, on a small BM25 index."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests

from steper_agent.retrieval import build_index, open_index
from tests.steper_agent.retrieval.shelves import PASSAGES, write_lines


class TestConformance(RetrieversIntegrationTests):
    folder = Path()

    @pytest.fixture(autouse=True)
    def _index(self, tmp_path: Path) -> None:
        build_index([write_lines(tmp_path / "corpus.jsonl", PASSAGES)], tmp_path / "index")
        type(self).folder = tmp_path / "index"

    @property
    def retriever_constructor(self) -> Any:
        # An index is opened, never made from its fields.
        return partial(open_index, self.folder)

    @property
    def retriever_query_example(self) -> str:
        return "engine of London"
