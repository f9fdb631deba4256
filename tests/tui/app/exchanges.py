"""Exchanges and conversations made by hand, for tests of whatever shows or keeps them."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from steper_agent.records import Exchange, Hit, Passage, Question, Step, Trajectory, Usage
from tui.app.conversations import Conversations

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def exchange(question: str = "When was the author of Emma born?", answer: str = "1775", steps: int = 2, **more: Any) -> Exchange:
    """As many steps as you like, of two passages each. Fields of the exchange, or of its trajectory, go in `more`."""
    of = {name: more.pop(name) for name in tuple(more) if name in Trajectory.model_fields}
    chain = tuple(
        Step(query=f"query {n} of {question}", rationale=f"rationale {n} comes closer to {answer}",
             hits=tuple(Hit(passage=Passage(id=f"p{n}{rank}", title=f"Title {n}.{rank}", text=f"Text of passage {n}.{rank}."), score=9.0 - rank)
                        for rank in range(2)))
        for n in range(1, steps + 1)
    )  # fmt: skip
    trajectory = {"question": Question(id="q", text=question), "strategy": "ircot", "steps": chain, "answer": answer,
                  "stop": "answered", "model": "base", "recipe": "r", **of}  # fmt: skip
    told = {"time": NOON, "asked": question, "rests_on": tuple((f"p{n}0",) for n in range(1, steps + 1)), "supported": True,
            "seconds": 1.25, "usage": Usage(prompt_tokens=100, completion_tokens=20), **more}  # fmt: skip
    return Exchange(trajectory=Trajectory(**trajectory), **told)


def fill(path: Path, conversations: int, exchanges: int = 3) -> None:
    """Many conversations at once, a minute apart, with the titles `title 0`, `title 1`, …, the last one the newest."""
    store = Conversations(path)
    one = store.begin("pattern")
    for n in range(exchanges):
        store.add(one.id, exchange(f"What of pattern {n}?", f"answer {n}"))
    store.close()
    start = datetime.now(UTC) - timedelta(minutes=conversations)
    times = [(start + timedelta(minutes=n)).isoformat(timespec="microseconds") for n in range(conversations)]
    rows = [(f"made-{n}", f"title {n}", moment, moment, exchanges) for n, moment in enumerate(times)]
    with sqlite3.connect(path) as base:
        base.executemany("INSERT INTO conversation(id, title, created, updated, exchanges) VALUES (?, ?, ?, ?, ?)", rows)
        base.execute("INSERT INTO exchange(conversation, record) SELECT c.id, e.record FROM conversation c, exchange e "
                     "WHERE c.id LIKE 'made-%' AND e.conversation = ?", (one.id,))
        base.execute("INSERT INTO said(conversation, is_title, text) SELECT c.id, 0, s.text FROM conversation c, said s "
                     "WHERE c.id LIKE 'made-%' AND s.conversation = ? AND NOT s.is_title", (one.id,))
        base.execute("INSERT INTO said(conversation, is_title, text) SELECT id, 1, title FROM conversation WHERE id LIKE 'made-%'")
    base.close()
    store = Conversations(path)
    store.delete(one.id)
    store.close()
