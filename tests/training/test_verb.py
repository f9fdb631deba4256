"""Verbs fail in three lines, stop politely, and show progress without a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from steper_agent.errors import ConfigError
from training.verb import progress, run, versions


def test_what_a_person_can_mend_is_printed_and_ends_with_two(capsys):
    def main(argv: Sequence[str] | None) -> int:
        raise ConfigError("too big", where=argv, fix="smaller")

    assert run(main, ["x"]) == 2
    assert capsys.readouterr().err == "ConfigError: too big\n  where: ['x']\n  fix:   smaller\n"


def test_an_interrupt_says_how_to_go_on(capsys):
    def main(_: Sequence[str] | None) -> int:
        raise KeyboardInterrupt

    assert run(main) == 130
    assert "same command again" in capsys.readouterr().err


def test_a_verb_that_ends_well_gives_its_own_code():
    assert run(lambda argv: len(argv or ()), ["a", "b", "c"]) == 3


def test_without_a_terminal_progress_is_a_few_plain_lines(capsys):
    with progress() as bar:
        task = bar.add_task("asking", total=1000)
        for _ in range(1000):
            bar.advance(task)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "asking 1000/1000"
    assert len(lines) < 5


def test_versions_name_python():
    assert "python" in versions()
