"""The page on engines is run against a real PostgreSQL, block by block, and what it makes is searched further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphs.run import Context, build_graph
from steper_agent.records import Passage
from steper_agent.retrieval.engines import fill
from steper_agent.retrieval.foreign import hits_from, search
from tests.docs.pages import blocks_of
from tests.docs.standin import Reader
from tests.steper_agent.retrieval.postgres import postgres
from tests.steper_agent.retrieval.shelves import HashEncoder

FIRST, *BLOCKS = blocks_of("engines.md")
BOOKS = blocks_of("embedding.md")[0]
"""Makes the folder of books that the pages search."""
SIZE = 64


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The names that the page makes, and what each of its blocks printed."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch, postgres() as url:
        patch.chdir(folder)
        code = BOOKS.code.partition("build_index(")[0].partition("BOOKS = ")
        names: dict[str, Any] = {"Path": Path}
        exec(f"BOOKS = {code[2]}", names)
        names |= {"URL": url, "encoder": HashEncoder(SIZE), "NUMBERS": SIZE, "model": Reader()}
        printed = {str(block): block.run(names) for block in BLOCKS}
        yield names, printed
        asyncio.run(names["engine"].close())


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_prints_what_the_page_says(block: Any, page: tuple[dict[str, Any], dict[str, str]]) -> None:
    assert page[1][str(block)].rstrip() == (block.prints or "").rstrip()


def test_the_first_lines_name_what_the_test_puts_in_their_place() -> None:
    assert all(f"{name} = " in FIRST.code for name in ("URL", "encoder", "NUMBERS"))


def test_passages_come_out_as_they_went_in_and_loading_again_changes_nothing(
    page: tuple[dict[str, Any], dict[str, str]],
) -> None:
    store, retriever = page[0]["store"], page[0]["retriever"]
    odd = [
        Passage(id="o'hara; drop table passages", title="It's", text='{"a": "%s"} \\ \n\nümläut :k ☃'),
        Passage(id="untitled", title="", text="Zanzibar has no title"),
    ]
    for _ in range(2):
        assert fill(store, odd) == 2
    found = hits_from(retriever.invoke("Zanzibar", k=1), 1)
    assert [hit.passage for hit in found] == [odd[1]]
    assert [hit.passage for hit in hits_from(retriever.invoke("It's", k=9), 9) if hit.passage.title][:1] == [odd[0]]
    store.delete([passage.id for passage in odd])


async def test_words_find_what_vectors_do_not(page: tuple[dict[str, Any], dict[str, str]]) -> None:
    """Vectors of hashed words are blind to inflection; full-text search is not."""
    retriever = page[0]["retriever"]
    hits = await search(retriever, "Steventons", 2)
    assert {"Steventon", "Jane Austen"} & {hit.passage.title for hit in hits}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert await search(retriever, " ", 2) == ()


async def test_one_search_does_not_move_the_next(page: tuple[dict[str, Any], dict[str, str]]) -> None:
    retriever = page[0]["retriever"]
    queries = ["Who is Jane Austen?", "Frankenstein", "Where is Hampshire?", "Mary Shelley"]
    alone = [await search(retriever, query, 2) for query in queries]
    together = await asyncio.gather(*(search(retriever, query, 2) for query in queries * 3))
    assert together == alone * 3


async def test_the_graph_asks_it_in_a_loop_of_its_own(page: tuple[dict[str, Any], dict[str, str]]) -> None:
    context = Context(Reader(), page[0]["retriever"], k=2)
    state = await build_graph(context).ainvoke({"question": "Where was the author of Emma born?"})
    assert (state["answer"], state["stop"]) == ("Steventon", "answered")
