"""The verb from end to end: the real graph and index over a small micro-world, resumed, refused and measured."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copyfile, copytree, rmtree
from typing import Any

import pytest

from steper_agent.journal import read, trajectories
from steper_agent.retrieval import build_index
from training.evaluate import EvaluateConfig, draw, evaluate, main, questions_digest
from training.judged import held
from training.microworld.questions import make_questions
from training.microworld.world import make_world
from training.verb import run

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index over a small world and questions about it."""
    folder = tmp_path_factory.mktemp("bench")
    world = make_world(120, split="test", seed=1)
    _write(folder / "corpus.jsonl", world.passages)
    _write(folder / "questions.jsonl", make_questions(world, 12, seed=2))
    build_index([folder / "corpus.jsonl"], folder / "index")
    return folder


def _write(path: Path, records: Any) -> None:
    path.write_text("".join(record.model_dump_json() + "\n" for record in records), encoding="utf-8")


def _flags(bench: Path, out: Path, *more: str) -> list[str]:
    given = ["--index", str(bench / "index"), "--questions", str(bench / "questions.jsonl")]
    return [*given, "--model", "symbolic", "--out", str(out), "--json", str(out / "copy.json"), *more]


def test_the_teacher_is_asked_judged_and_reported(bench, tmp_path, capsys):
    assert run(main, _flags(bench, tmp_path)) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert json.loads((tmp_path / "copy.json").read_text()) == report
    score = report["evaluation"]["score"]
    assert score["n"] == 12
    assert score["em"] >= 0.9
    assert score["ci"][0] <= score["em"] <= score["ci"][1]
    shares = report["evaluation"]["support_recall"]
    assert shares == sorted(shares)
    assert {"strategy", "prompts", "k", "steps", "index", "questions", "decoding", "versions"} <= set(report["recipe"])
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert sum(line["em"] for line in lines) / 12 == pytest.approx(score["em"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("EM", "F1", "Acc", "up to step", "a question:"))


def test_questions_in_the_journal_are_not_asked_again(bench, tmp_path):
    assert run(main, _flags(bench, tmp_path, "--limit", "5")) == 0
    first = list(read(tmp_path / "journal.jsonl"))
    assert run(main, _flags(bench, tmp_path)) == 0
    both = list(read(tmp_path / "journal.jsonl"))
    assert both[: len(first)] == first
    ids = [one.question.id for one in trajectories(tmp_path / "journal.jsonl")]
    assert len(ids) == len(set(ids)) == 12
    assert run(main, _flags(bench, tmp_path)) == 0
    assert list(read(tmp_path / "journal.jsonl")) == both


def test_a_stopped_evaluation_ends_like_an_undisturbed_one(bench, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(main, _flags(bench, whole)) == 0
    lines = (whole / "journal.jsonl").read_bytes()
    stopped.mkdir()
    (stopped / "journal.jsonl").write_bytes(lines[: len(lines) * 2 // 3])
    assert run(main, _flags(bench, stopped)) == 0
    assert (stopped / "predictions.jsonl").read_bytes() == (whole / "predictions.jsonl").read_bytes()


def test_a_run_folder_of_other_settings_is_refused(bench, tmp_path, capsys):
    assert run(main, _flags(bench, tmp_path, "--limit", "1")) == 0
    assert run(main, _flags(bench, tmp_path, "--limit", "1", "--k", "2")) == 2
    assert "k = 4" in capsys.readouterr().err


def test_retrieval_alone_is_measured(bench, tmp_path, capsys):
    out = tmp_path / "recall.json"
    flags = ["--retrieval-only", "--index", str(bench / "index"), "--questions", str(bench / "questions.jsonl")]
    assert run(main, [*flags, "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    row = found["rows"][0]
    assert (row["questions"], row["n"], list(row["depths"])) == ("all", 12, ["2", "5", "10"])
    shares = [row["depths"][k]["recall"]["mean"] for k in row["depths"]]
    assert 0 < shares[0] <= shares[1] <= shares[2] <= 1
    assert "recall@10" in capsys.readouterr().out


def test_an_index_of_another_corpus_is_named(bench, tmp_path, capsys):
    world = make_world(120, split="train", seed=9)
    _write(tmp_path / "q.jsonl", make_questions(world, 3, seed=2))
    flags = ["--retrieval-only", "--index", str(bench / "index"), "--questions", str(tmp_path / "q.jsonl")]
    assert run(main, flags) == 2
    assert "another corpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [('{"id": "1", "question": "Who?"}', "no answer"), ("{broken", "1"), ("", "no questions")],
)
def test_bad_questions_are_one_clear_error(bench, tmp_path, capsys, line, complaint):
    (tmp_path / "q.jsonl").write_text(line)
    flags = ["--index", str(bench / "index"), "--questions", str(tmp_path / "q.jsonl"), "--model", "symbolic"]
    assert run(main, [*flags, "--out", str(tmp_path / "out")]) == 2
    assert complaint in capsys.readouterr().err


def test_a_model_must_be_named(bench, capsys):
    assert run(main, ["--index", str(bench / "index"), "--questions", str(bench / "questions.jsonl")]) == 2
    assert "--model" in capsys.readouterr().err


def test_a_larger_draw_holds_the_smaller(bench):
    from steper_agent.retrieval import read_questions

    everything = read_questions(bench / "questions.jsonl")
    config = EvaluateConfig(index=bench, questions=bench, seed=3)
    draws = [draw(everything, config.model_copy(update={"limit": limit})) for limit in (2, 7, 99, 0)]
    for small, large in zip(draws, draws[1:], strict=False):
        assert {one.id for one in small} <= {one.id for one in large}
    assert draws[2] == draws[3] == everything
    assert questions_digest(everything) == questions_digest(everything[::-1]) != questions_digest(everything[1:])


@pytest.mark.skipif(not REAL.is_dir(), reason="the real questions are not beside this checkout")
@pytest.mark.parametrize(("name", "at_ten"), [("hotpotqa", 0.886), ("2wikimultihopqa", 0.709)])
def test_bm25_finds_what_the_reference_finds(tmp_path, name, at_ten):
    build_index([REAL / f"{name}.corpus.jsonl"], tmp_path / "index")
    flags = ["--index", str(tmp_path / "index"), "--questions", str(REAL / f"{name}.questions.jsonl")]
    assert run(main, [*flags, "--retrieval-only", "--json", str(tmp_path / "recall.json")]) == 0
    row = json.loads((tmp_path / "recall.json").read_text())["rows"][0]
    assert row["depths"]["10"]["recall"]["mean"] == pytest.approx(at_ten, abs=0.005)


def test_what_went_wrong_first_and_how_each_step_was_done_are_told(bench, tmp_path, capsys):
    questions = [json.loads(line) for line in (bench / "questions.jsonl").read_text().splitlines()]
    for wrong in questions[:3]:
        wrong["answers"] = ["Nobody Knows"]
    (tmp_path / "wrong.jsonl").write_text("".join(json.dumps(one) + "\n" for one in questions))
    given = _flags(bench, tmp_path, "--questions", str(tmp_path / "wrong.jsonl"), "--k", "8")
    assert run(main, given) == 0
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    labels = {line["id"]: line["first_fault"] and line["first_fault"]["label"] for line in lines}
    assert [labels[one["id"]] for one in questions[:3]] == ["wrong_gold"] * 3
    assert all((labels[line["id"]] is None) == (line["em"] == 1) for line in lines)
    found = json.loads((tmp_path / "report.json").read_text())["evaluation"]
    assert sum(found["faults"].values()) == sum(line["em"] < 1 for line in lines)
    assert found["abilities"]["aggregation"]["mean"] > 0.9
    shown = capsys.readouterr().out
    assert "what went wrong first: wrong gold 3" in shown
    assert "ability, 0 to 1: " in shown


def test_where_there_is_nothing_to_mark_a_judge_is_not_asked(bench, tmp_path, monkeypatch):
    from tests.fakes import Script
    from training import models
    from training.microworld.teacher import SymbolicTeacher

    asked = Script(lines=())
    monkeypatch.setattr(models, "open_model", lambda spec, **_: asked if spec == "judge" else SymbolicTeacher())
    assert run(main, _flags(bench, tmp_path, "--strategy", "direct", "--judge", "judge")) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["marks"], report["judge"], report["judge_spec"]) == ({}, "", "judge")
    config = EvaluateConfig(index=bench / "index", questions=bench / "questions.jsonl", model="symbolic", strategy="direct", judge="judge", out=tmp_path)
    assert held(config) is not None
    assert held(config.model_copy(update={"judge": "another"})) is None


def test_a_judge_marks_the_runs_once(bench, tmp_path, capsys, monkeypatch):
    from tests.fakes import Script
    from training import models
    from training.microworld.teacher import SymbolicTeacher

    judges = {"first": Script(lines=("initialization: 4\naggregation: 2",)), "second": Script(lines=())}
    monkeypatch.setattr(models, "open_model", lambda spec, **_: judges.get(spec) or SymbolicTeacher())
    two_steps = next(line for line in (bench / "questions.jsonl").read_text().splitlines() if json.loads(line)["meta"]["hops"] == 2)
    (tmp_path / "one.jsonl").write_text(two_steps + "\n")
    for judge in judges:
        assert run(main, _flags(bench, tmp_path, "--questions", str(tmp_path / "one.jsonl"), "--k", "8", "--judge", judge)) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        assert {kind: one["mean"] for kind, one in report["marks"].items()} == {"initialization": 4.0, "aggregation": 2.0}
        shown = capsys.readouterr().out
        assert "marks of script, 1 to 5" in shown
        assert "n = 1)" in shown
        assert "could not be read" not in shown


def test_replies_of_a_judge_that_cannot_be_read_are_counted(bench, tmp_path, capsys, monkeypatch):
    from tests.fakes import Script
    from training import models
    from training.microworld.teacher import SymbolicTeacher

    judge = Script(lines=("Very good!",) * 3)
    monkeypatch.setattr(models, "open_model", lambda spec, **_: judge if spec == "judge" else SymbolicTeacher())
    assert run(main, _flags(bench, tmp_path, "--judge", "judge", "--limit", "3")) == 0
    assert json.loads((tmp_path / "report.json").read_text())["unread"] == 3
    assert "3 replies of the judge could not be read" in capsys.readouterr().out


def test_a_finished_evaluation_is_held_until_what_it_rests_on_changes(bench, tmp_path):
    for name in ("index", "questions.jsonl", "corpus.jsonl"):
        (copytree if (bench / name).is_dir() else copyfile)(bench / name, tmp_path / name)
    questions = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    questions[0]["text"] += " \u2028 \x85"
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in questions))
    config = EvaluateConfig(index=tmp_path / "index", questions=tmp_path / "questions.jsonl", model="symbolic", limit=3, out=tmp_path / "run")
    evaluate(config)
    found = held(config)
    assert found is not None
    assert len(found.verdicts) == 3
    predictions = tmp_path / "run" / "predictions.jsonl"
    whole = predictions.read_bytes()
    predictions.write_bytes(whole[:-20])
    assert held(config) is None
    predictions.write_bytes(whole)
    lines = (tmp_path / "corpus.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "corpus.jsonl").write_text("".join(lines[:-1]))
    rmtree(tmp_path / "index")
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "index")
    assert held(config) is None
