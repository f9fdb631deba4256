"""Pictures of a report as SVG: points with their intervals, in colours that colour-blind readers tell apart and print keeps."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from steper_agent.records import KINDS
from training.experiment.records import Comparison, Group, Report, Row
from training.loop.plots import COLOURS as OF_KIND

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b3a100")
"""Okabe and Ito's, the yellow darkened for white paper."""
MARKS = "osD^vPX*"
"""Beside colours, for readers and printers without them."""
MOST = len(COLOURS)
"""Rows in a picture that tells them apart by colour."""


class Curve(NamedTuple):
    """A learning curve: rows that differ in their trajectories alone, the fewest first."""

    name: str
    rows: tuple[Row, ...]


def rows_by_test(report: Report) -> dict[str, list[Row]]:
    return {test: [row for row in report.rows if row.test == test] for test in dict.fromkeys(row.test for row in report.rows)}


def scores(report: Report) -> bytes:
    """EM of every row with its interval, a panel a test set; small marks are single seeds."""
    panels = rows_by_test(report)
    first = [row.name for row in next(iter(panels.values()))]
    most = max(map(len, panels.values()))
    with _figure(3.4 + 3 * len(panels), 1.1 + 0.3 * most) as (figure, done):
        for number, (test, rows) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(1, len(panels), number)
            for place, row in enumerate(rows):
                colour = COLOURS[0] if row.trained else COLOURS[6]
                axes.plot(row.em, [place] * len(row.em), "|", color=colour, markersize=9, alpha=0.6)
                _point(axes, row.mean, place, row.interval, colour, "o" if row.trained else "s")
            names = [row.name for row in rows]
            _name_places(axes, names if number == 1 or names != first else [""] * len(rows))
            axes.set_xlabel(f"EM on {test}, {rows[0].n} questions")
    return done()


def differences(comparisons: Sequence[Comparison]) -> bytes:
    """EM points beside the reference, with their intervals."""
    with _figure(7.4, 1.2 + 0.3 * len(comparisons)) as (figure, done):
        axes = figure.add_subplot()
        for place, one in enumerate(comparisons):
            clear = one.ci[0] > 0 or one.ci[1] < 0
            _point(axes, 100 * one.em, place, (100 * one.ci[0], 100 * one.ci[1]), COLOURS[0] if clear else "#777777", "o" if clear else "s")
        axes.axvline(0, color="black", linewidth=0.8)
        _name_places(axes, [one.name for one in comparisons])
        axes.set_xlabel(f"points of EM over {comparisons[0].against} on {comparisons[0].test}, 95 % interval")
    return done()


def by_value(rows: Sequence[Row], told: Callable[[Row], Mapping[str, Group]], label: str, score: str) -> bytes:
    """Rows side by side at every value of `told`: hops, types, kinds of step."""
    values = list(dict.fromkeys(value for row in rows for value in told(row)))
    with _figure(max(5.5, 1.6 + 0.25 * len(values) * len(rows)), 3.8) as (figure, done):
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            found = [(at, told(row)[value]) for at, value in enumerate(values) if value in told(row)]
            shift = (place - (len(rows) - 1) / 2) * 0.8 / len(rows)
            means = [group.mean for _, group in found]
            axes.errorbar([at + shift for at, _ in found], means, yerr=_arms(means, [group.interval for _, group in found]), fmt=MARKS[place],
                          color=COLOURS[place], capsize=2, markersize=5, linewidth=1.2, label=row.name)
        axes.set_xticks(range(len(values)), values)
        axes.set_xlabel(label)
        axes.set_ylabel(f"{score}, 95 % interval")
        axes.set_ylim(-0.02, 1.02)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return done()


def learning_curves(curves: Sequence[Curve]) -> bytes:
    with _figure(6.4, 3.8) as (figure, done):
        axes = figure.add_subplot()
        for place, curve in enumerate(curves):
            told = [row.trained.trajectories if row.trained else 0 for row in curve.rows]
            means = [row.mean for row in curve.rows]
            axes.errorbar(told, means, yerr=_arms(means, [row.interval for row in curve.rows]), fmt=f"-{MARKS[place % MOST]}",
                          color=COLOURS[place % MOST], capsize=3, markersize=5, linewidth=1.2, label=curve.name)
        axes.set_xscale("log")
        ticks = sorted({row.trained.trajectories for curve in curves for row in curve.rows if row.trained})
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("trajectories taught")
        axes.set_ylabel(f"EM on {curves[0].rows[0].test}, 95 % interval")
        axes.legend(fontsize=8)
    return done()


def frontier(rows: Sequence[Row]) -> bytes:
    """EM against what a question costs; the line joins the rows that nobody beats in both."""
    costs: dict[str, Callable[[Row], float | None]] = {"seconds a question, many side by side": lambda row: row.seconds, "tokens a question, read and written": tokens}
    with _figure(10, 4) as (figure, done):
        for number, (label, cost) in enumerate(costs.items(), start=1):
            axes = figure.add_subplot(1, 2, number)
            known = [(paid, row) for row in rows if (paid := cost(row))]
            for place, (paid, row) in enumerate(known):
                axes.plot(paid, row.mean, MARKS[place % MOST], color=COLOURS[place % MOST], markersize=6)
                axes.annotate(row.name, (paid, row.mean), xytext=(6, 4 if place % 2 else -9), textcoords="offset points", fontsize=7)
            best = unbeaten([(paid, row.mean) for paid, row in known])
            axes.plot([paid for paid, _ in best], [em for _, em in best], "--", color="#777777", linewidth=1)
            _spread(axes, [paid for paid, _ in known])
            axes.set_xlabel(label)
            axes.set_ylabel(f"EM on {rows[0].test}")
            axes.margins(x=0.2, y=0.12)
    return done()


def tokens(row: Row) -> float | None:
    return None if row.tokens_read is None or row.tokens_written is None else row.tokens_read + row.tokens_written


def unbeaten(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (cost, score) that no other is better than in one and as good as in the other; the cheapest first."""
    found: list[tuple[float, float]] = []
    for cost, score in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not found or score > found[-1][1]:
            found.append((cost, score))
    return found


def faults(rows: Sequence[Row]) -> bytes:
    """Why questions were not answered exactly, as shares of all questions."""
    names = list(dict.fromkeys(name for row in rows for name in row.faults))
    with _figure(8.4, 1.4 + 0.32 * len(rows)) as (figure, done):
        axes = figure.add_subplot()
        left = [0.0] * len(rows)
        for place, name in enumerate(names):
            shares = [row.faults.get(name, 0.0) for row in rows]
            axes.barh(range(len(rows)), shares, left=left, color=COLOURS[place % MOST], edgecolor="white", hatch=["", "//", "..", "xx"][place // MOST % 4],
                      label=name.replace("_", " "))
            left = [before + share for before, share in zip(left, shares, strict=True)]
        _name_places(axes, [row.name for row in rows])
        axes.set_xlabel(f"share of the questions of {rows[0].test}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return done()


def sigma(report: Report) -> bytes:
    """σ of every kind over the updates: a panel a row, a line a seed."""
    names = list(dict.fromkeys(one.row for one in report.sigma))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    with _figure(0.8 + 3.2 * columns, 0.8 + 2.4 * lines) as (figure, done):
        for number, name in enumerate(names, start=1):
            axes = figure.add_subplot(lines, columns, number)
            for one in [one for one in report.sigma if one.row == name]:
                for kind in KINDS:
                    axes.plot(one.step, one.sigma.get(kind, [float("nan")] * len(one.step)), color=OF_KIND[kind], linewidth=1,
                              linestyle=("-", "--", ":")[KINDS.index(kind)], label=kind)
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("update")
            axes.set_ylabel("σ")
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(KINDS), fontsize=8)
    return done()


def _point(axes: Any, mean: float, place: int, interval: tuple[float, float], colour: str, mark: str) -> None:
    axes.errorbar([mean], [place], xerr=_arms([mean], [interval]), fmt=mark, color=colour, capsize=3, markersize=5, linewidth=1.4)


def _arms(means: Sequence[float], intervals: Sequence[tuple[float, float]]) -> list[list[float]]:
    return [[max(0.0, mean - low) for mean, (low, _) in zip(means, intervals, strict=True)],
            [max(0.0, high - mean) for mean, (_, high) in zip(means, intervals, strict=True)]]


def _spread(axes: Any, costs: Sequence[float]) -> None:
    """Far apart, they are read by their ratios."""
    if costs and max(costs) > 8 * min(costs):
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
        axes.xaxis.set_minor_locator(NullLocator())


def _name_places(axes: Any, names: Sequence[str]) -> None:
    """The first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, Callable[[], bytes]]]:
    """A figure, and what makes SVG of it: the same figures give the same bytes. Without pyplot: no global state, no display."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "steper", "svg.fonttype": "none", "font.family": "sans-serif", "text.parse_math": False, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3,
                "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(settings):
        figure = FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained")).figure

        def done() -> bytes:
            file = io.BytesIO()
            with matplotlib.rc_context(settings):
                figure.savefig(file, format="svg", metadata={"Date": None})
            return file.getvalue()

        yield figure, done
