"""A report as a reader meets it: sections of words, a table and a picture, from which the page and the Markdown are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from steper_agent.records import KINDS
from training.experiment import plots
from training.experiment.records import METRICS, Comparison, Group, Ratio, Report, Row

HOW = (
    "EM, F1 and Acc are shares of questions; gains are points (hundredths). A mean is over all seeds and questions. Intervals are 95 %: "
    "2,000 bootstrap resamples of the questions, the same for both rows of a comparison, and to each is added what other seeds would have "
    "changed, by as much as the seeds' means differ beyond what the questions explain (Student's t). p is two-sided, from the same resamples. "
    "p (flips) is a sign-flip test over questions: it is about these very students and says nothing of other seeds. Neither is corrected for the "
    "number of comparisons."
)


class Section(NamedTuple):
    title: str
    words: str
    table: Sequence[Sequence[str]]
    """The first line is the head; may be empty."""
    picture: str = ""
    """Its file's name, without the ending."""
    svg: bytes = b""


def sections_of(report: Report, claims: Mapping[str, Comparison | Ratio]) -> list[Section]:
    """All that this report has something to say in; what no verdict, journal or axis speaks of is left out."""
    if not report.rows:
        return []
    by_test = plots.rows_by_test(report)
    judged = [section for test in by_test for section in _of_test(test, report, by_test)]
    found = (_claims(claims), _scores(report), _teaching(report), *judged, _transfer(by_test), _sigma(report), _recipe(report))
    return [section for section in found if section]


def _of_test(test: str, report: Report, by_test: Mapping[str, Sequence[Row]]) -> Iterator[Section]:
    """What one test set says of the rows that are judged on it. Where there are others its name is in the titles, and, but for the
    first one's, in those of the pictures."""
    rows, is_first, on = by_test[test], test == next(iter(by_test)), f" on {test}" if len(by_test) > 1 else ""
    fields = dict.fromkeys(name for row in rows for name in row.groups)
    found = (_differences([one for one in report.comparisons if one.test == test]), _learning(rows), *(_groups(rows, field) for field in fields),
             _abilities(rows), _marks(rows), _faults(rows), _costs(rows))  # fmt: skip
    for section in found:
        if section:
            picture = section.picture if is_first or not section.picture else section.picture + on
            yield section._replace(title=section.title + on, picture=_safe(picture))


def _claims(claims: Mapping[str, Comparison | Ratio]) -> Section | None:
    table = [["claim", "", "on", "EM", "95 %", "p", "p (flips)"]]
    for name, claim in claims.items():
        pair = f"{claim.name} − {claim.against}"
        if isinstance(claim, Ratio):
            table.append([name, pair.replace("−", "/"), claim.test, f"× {_times(claim.em_ratio)}, size × {_times(claim.size_ratio)}", "", "", ""])
        else:
            table.append([name, pair, claim.test, *_gain(claim)])
    return Section("Claims", "", table) if claims else None


def _scores(report: Report) -> Section:
    table = [["row", "test set", "questions", "seeds", "EM", "F1", "Acc", "EM of each seed", "parameters"]]
    for row in report.rows:
        table.append([row.name, row.test, f"{row.n:,}", f"{len(row.em)}", *(_told(row.metrics[metric]) for metric in METRICS),
                      " ".join(f"{em:.3f}" for em in row.em), f"{row.parameters:,}" if row.parameters else "–"])
    missing = f" Not finished, and left out: {', '.join(report.missing)}." if report.missing else ""
    alone = [row.name for row in report.rows if row.trained and len(row.seeds) == 1]
    of_one = f" Of one seed, so that their intervals and p are over questions alone: {', '.join(dict.fromkeys(alone))}." if alone else ""
    return Section("Accuracy", HOW + of_one + missing, table, "scores", plots.scores(report))


def _differences(found: Sequence[Comparison]) -> Section | None:
    if not found:
        return None
    table = [["row", f"EM over {found[0].against}", "95 %", "p", "p (flips)", "each seed", "F1", "Acc"]]
    for one in found:
        table.append([one.name, *_gain(one), " ".join(f"{100 * gain:+.1f}" for gain in one.by_seed), f"{100 * one.f1:+.1f}", f"{100 * one.acc:+.1f}"])
    return Section("Against the reference", "Paired by question, in points; * where the interval leaves out zero.", table, "differences", plots.differences(found))


def _teaching(report: Report) -> Section | None:
    table = [["row", "trajectories", "examples", "updates", "tokens read", "seconds of training", "parameters trained"]]
    for name, row in {row.name: row for row in report.rows}.items():
        if told := row.trained:
            table.append([name, *(f"{value:,.0f}" for value in (told.trajectories, told.examples, told.updates, told.tokens, told.seconds, told.parameters))])
    return Section("What each was taught", "Means over seeds.", table) if len(table) > 1 else None


def _learning(rows: Sequence[Row]) -> Section | None:
    curves = curves_of(rows)
    if not curves:
        return None
    table = [["rows", "trajectories taught", "EM"]]
    table += [[curve.name, f"{row.trained.trajectories:,.0f}" if row.trained else "", _told(row.metrics["em"])] for curve in curves for row in curve.rows]
    return Section("Learning curves", "Rows that differ in nothing but how many trajectories were drawn; a smaller draw lies in a larger one.", table,
                   "learning", plots.learning_curves(curves))


def curves_of(rows: Sequence[Row]) -> list[plots.Curve]:
    """Rows that teach alike but for how many trajectories, where there are several; seeds may be more in one than in another."""
    alike: dict[str, list[Row]] = {}
    for row in rows:
        if row.trained:
            alike.setdefault(str({key: value for key, value in row.settings.items() if key not in ("name", "trajectories", "seeds", "tests")}), []).append(row)
    found = [sorted(same, key=lambda row: row.trained.trajectories if row.trained else 0) for same in alike.values() if len(same) > 1]
    return [plots.Curve(same[-1].name, tuple(same)) for same in found]


def _groups(rows: Sequence[Row], field: str) -> Section:
    told = _table_of(rows, lambda row: row.groups.get(field, {}), field)
    words = f"EM by the questions' `{field}`." + _shown(rows)
    return Section(f"By {field}", words, told, f"by_{field}", plots.by_value(rows[: plots.MOST], lambda row: row.groups.get(field, {}), field, "EM"))


def _abilities(rows: Sequence[Row]) -> Section | None:
    scored = [row for row in rows if row.abilities]
    if not scored:
        return None
    words = "How well each kind of step was done by comparison with the right chains, from 0 to 1, over the questions that had such a step with every seed: "\
            "rows whose n differ speak of different questions."
    return Section("Abilities", words + _shown(scored), _table_of(scored, _ability, "kind of step"), "abilities",
                   plots.by_value(scored[: plots.MOST], _ability, "kind of step", "score"))


def _marks(rows: Sequence[Row]) -> Section | None:
    if not any(row.marks or row.unread for row in rows):
        return None
    table = [["row", *KINDS, "unread"]]
    table += [[row.name, *(f"{row.marks[kind]:.2f}" if kind in row.marks else "–" for kind in KINDS), str(row.unread)] for row in rows]
    words = "How a model rates each kind of step, from 1 to 5: means over seeds and questions. Unread: its replies that could not be read, whose runs have no marks."
    return Section("Marks of the judge", words, table)


def _ability(row: Row) -> Mapping[str, Group]:
    return {str(kind): group for kind, group in row.abilities.items()}


def _faults(rows: Sequence[Row]) -> Section | None:
    names = list(dict.fromkeys(name for row in rows for name in row.faults))
    if not names:
        return None
    table = [["row", *(name.replace("_", " ") for name in names), "supports found"]]
    table += [[row.name, *(f"{row.faults.get(name, 0):.3f}" for name in names), "–" if row.support is None else f"{row.support:.3f}"] for row in rows]
    return Section("What went wrong", "Share of all questions, the first cause of each that was not answered exactly.", table, "faults", plots.faults(rows))


def _costs(rows: Sequence[Row]) -> Section:
    table = [["row", "EM", "seconds a question", "tokens read", "tokens written", "searches"]]
    for row in rows:
        table.append([row.name, f"{row.mean:.3f}", *("–" if value is None else f"{value:,.{digits}f}" for value, digits in
                                                    ((row.seconds, 2), (row.tokens_read, 0), (row.tokens_written, 0), (row.searches, 1)))])  # fmt: skip
    return Section("Accuracy against cost", "Means a question. Seconds are of this machine, with many questions side by side: they compare rows, not machines.", table,
                   "frontier", plots.frontier(rows))


def _transfer(by_test: Mapping[str, Sequence[Row]]) -> Section | None:
    if len(by_test) < 2:
        return None
    table = [["row, taught on", *(f"EM on {test}" for test in by_test)]]
    for name, row in {row.name: row for rows in by_test.values() for row in rows}.items():
        taught_on = row.settings.get("journal") or "nothing here"
        found = [next((_told(one.metrics["em"]) for one in rows if one.name == name), "–") for rows in by_test.values()]
        table.append([f"{name}, {taught_on}", *found])
    return Section("Transfer", "Taught on one journal, tested on every test set.", table)


def _sigma(report: Report) -> Section | None:
    if not report.sigma:
        return None
    words = "Where σ is learned or follows the loss: of each kind of step, a line a seed. It should fall with the losses, not before them."
    return Section("σ over time", words, [], "sigma", plots.sigma(report))


def _recipe(report: Report) -> Section:
    table = [["test set", "", ""]]
    table += [[test, key, str(value)] for test, same in report.same.items() for key, value in same.items()]
    table += [[test, "definition", rules] for test, rules in report.definitions.items()]
    return Section("The same for all rows", "Evaluations that differ in any of this are refused.", table)


def _table_of(rows: Sequence[Row], told: Callable[[Row], Mapping[str, Group]], label: str) -> list[list[str]]:
    values = list(dict.fromkeys(value for row in rows for value in told(row)))
    counts = {value: {told(row)[value].n for row in rows if value in told(row)} for value in values}
    same = {value: f" (n = {count.pop():,})" for value, count in counts.items() if len(count) == 1}
    table = [[f"row, by {label}", *(value + same.get(value, "") for value in values)]]
    for row in rows:
        groups = told(row)
        table.append([row.name, *(_told(groups[value]) + ("" if value in same else f" (n = {groups[value].n:,})") if value in groups else "–" for value in values)])
    return table


def _shown(rows: Sequence[Row]) -> str:
    return f" The picture shows the first {plots.MOST} rows." if len(rows) > plots.MOST else ""


def _told(group: Group) -> str:
    return f"{group.mean:.3f} [{group.interval[0]:.3f}, {group.interval[1]:.3f}]"


def _gain(one: Comparison) -> list[str]:
    clear = " *" if one.ci[0] > 0 or one.ci[1] < 0 else ""
    return [f"{100 * one.em:+.1f}{clear}", f"{100 * one.ci[0]:+.1f} to {100 * one.ci[1]:+.1f}", _chance(one.p), _chance(one.p_flip)]


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3f}"


def _safe(field: str) -> str:
    """For a file's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in field)
