"""Plots of saved runs: by torch version, and over time."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lstmq.escaping import escape_math
from lstmq.figures import check_figure_path, save_figure
from lstmq.gate import Conditions
from lstmq.quantization import FLOAT32
from lstmq.report.summaries import SchemeSummary, change_points, version_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tables = Sequence[Sequence[SchemeSummary]]
FONT_SIZE = 12  # points. A plot of 4.8 inches that fills a phone's 330 pixels shows them as 11 pixels


@dataclass(frozen=True, kw_only=True)
class Look:
    """What tells one scheme from another, in color and without it.

    Attributes:
        color: of matplotlib.
        marker: of matplotlib.
        dashes: a line style of matplotlib.
    """

    color: str
    marker: str
    dashes: str


MARKERS, DASHES = "o^DvP*X<>", ("-", "--", "-.", ":")
SHADES = ("0.85", "0.65", "0.45", "0.25")  # of parts: gray, because colors stand for schemes
HATCHES = ("", "//", "xx", "..", "--", "\\\\", "oo", "++")


def look_of(number: int) -> Look:
    """Return the look of the scheme with this number. Nine in a row differ in their markers."""
    return Look(color=f"C{number % 10}", marker=MARKERS[number % len(MARKERS)], dashes=DASHES[number % len(DASHES)])


def _offset(number: int, tables: Tables) -> float:
    """Return how far from its version of torch a scheme is drawn, so that schemes do not hide one another."""
    return 0.8 * ((number + 0.5) / len(tables) - 0.5)


def _plot_speedups(axes: "Axes", tables: Tables, places: Mapping[str, int]) -> None:
    """Plot intervals by version of torch, and limits as short lines."""
    for number, table in enumerate(tables):
        look = look_of(number)
        rows = [row for row in table if row.is_measured]
        x = [places[row.torch] + _offset(number, tables) for row in rows]
        medians = [row.speedup.median for row in rows]
        ends = [
            [row.speedup.median - row.speedup.lower for row in rows],
            [row.speedup.upper - row.speedup.median for row in rows],
        ]
        label = escape_math(table[0].scheme)
        axes.errorbar(x, medians, yerr=ends, fmt=look.marker, color=look.color, capsize=3, label=label)
        limits = [(at, row.least_speedup) for at, row in zip(x, rows, strict=True) if row.least_speedup is not None]
        at, limit = zip(*limits, strict=True) if limits else ((), ())
        axes.plot(at, limit, "_", markersize=14, color=look.color)
    axes.set(ylabel="speedup; dash: limit", ylim=(0, None))


def _plot_times(axes: "Axes", tables: Tables, places: Mapping[str, int]) -> None:
    """Plot microseconds per token of the schemes and of float32."""
    for number, table in enumerate(tables):
        look = look_of(number)
        rows = [row for row in table if row.is_measured]
        x, times = [places[row.torch] for row in rows], [row.us for row in rows]
        label = escape_math(table[0].scheme)
        axes.plot(x, times, look.dashes, marker=look.marker, color=look.color, label=label)
    rows = [row for row in tables[0] if row.is_measured]
    times = [row.us_float32 for row in rows]
    axes.plot([places[row.torch] for row in rows], times, "--", marker="s", color="gray", label=FLOAT32)
    axes.set(ylabel="us/token", ylim=(0, None))


def _plot_sizes(axes: "Axes", tables: Tables, places: Mapping[str, int]) -> None:
    """Plot megabytes by part, one bar for each scheme and version. A bar has the marker of its scheme on top."""
    looks: dict[str, tuple[str, str]] = {}
    width = 0.8 / len(tables)
    for number, table in enumerate(tables):
        tops = []
        for row in table:
            bottom = 0.0
            at = places[row.torch] + _offset(number, tables)
            for part, size in row.parts:
                label = "_" if part in looks else escape_math(part)
                shade, hatch = looks.setdefault(part, (SHADES[len(looks) % 4], HATCHES[len(looks) % len(HATCHES)]))
                edge = "black" if shade > "0.5" else "white"  # hatches have the color of edges
                [bar] = axes.bar([at], [size / 1e6], 0.9 * width, bottom, color=shade, label=label)
                bar.set(hatch=hatch, edgecolor=edge, linewidth=0.5)
                bottom += size / 1e6
            tops += [(at, bottom)] if row.parts else []
        if tops:
            look = look_of(number)
            axes.plot(*zip(*tops, strict=True), look.marker, color=look.color, label=escape_math(table[0].scheme))
    axes.set(ylabel="MB by part", ylim=(0, None))


PLOTS = {"speedup": _plot_speedups, "us/token": _plot_times, "size by part": _plot_sizes}


def plot_summaries(groups: Sequence[Tables], path: Path) -> None:
    """Draw all of :data:`PLOTS` into one figure, with one row for each group.

    Args:
        groups: from :func:`~lstmq.report.summaries.group_summaries`.
        path: a file that :func:`lstmq.figures.check_figure_path` accepts.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5 * len(groups)), layout="constrained")
    for row, tables in zip(figure.subplots(len(groups), len(PLOTS), squeeze=False), groups, strict=True):
        row[0].set_title(escape_math(tables[0][0].machine))
        for axes, draw in zip(row, PLOTS.values(), strict=True):
            _draw(axes, draw, tables)
    save_figure(figure, path)


def plot_svg(name: str, tables: Tables, dark: bool) -> bytes:
    """Return one of :data:`PLOTS` for the tables of a group, as SVG with a transparent background."""
    from matplotlib import style
    from matplotlib.figure import Figure

    # Text stays text: readers can select it, and a browser draws it in the size that was asked for.
    settings = {"svg.fonttype": "none", "font.size": FONT_SIZE, "hatch.linewidth": 0.5}
    with style.context(["dark_background" if dark else "default", settings]):
        figure = Figure(figsize=(4.8, 4.8), layout="constrained")
        _draw(figure.subplots(), PLOTS[name], tables)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return buffer.getvalue()


def _draw(axes: "Axes", draw: Callable[["Axes", Tables, Mapping[str, int]], None], tables: Tables) -> None:
    versions = sorted({row.torch for table in tables for row in table}, key=version_key)
    draw(axes, tables, {name: place for place, name in enumerate(versions)})
    is_crowded = sum(map(len, versions)) > 24  # characters in a row
    axes.set_xticks(range(len(versions)), map(escape_math, versions))
    axes.tick_params(axis="x", rotation=40 if is_crowded else 0)
    for label in axes.get_xticklabels():
        label.set(ha="right" if is_crowded else "center", rotation_mode="anchor")
    axes.set(xlim=(-0.5, len(versions) - 0.5), xlabel="torch")
    handles, labels = axes.get_legend_handles_labels()
    if handles:  # empty if nothing was measured
        columns, above = min(2, len(handles)), (0, 1.02, 1, 0.1)  # where it hides nothing
        axes.legend(
            handles, labels, ncols=columns, loc="lower left", bbox_to_anchor=above, mode="expand", borderaxespad=0
        )


def check_history_path(path: Path) -> None:
    """Raise ``ValueError`` if :func:`plot_history` cannot draw to ``path``, or a package that it needs is missing."""
    check_figure_path(path)
    if find_spec("ruptures") is None:
        raise ValueError("change points need ruptures: pip install 'lstmq[history]'")


def plot_history(summaries: Iterable[SchemeSummary], path: Path) -> None:
    """Plot the speedup of a scheme over time, one row for each set of conditions, and a line at each change point."""
    from matplotlib.figure import Figure

    series: dict[Conditions, list[SchemeSummary]] = {}
    for summary in sorted((row for row in summaries if row.is_valid), key=lambda row: row.date):
        series.setdefault(summary.conditions, []).append(summary)
    figure = Figure(figsize=(10, 3.5 * len(series)), layout="constrained")
    for subplots, rows in zip(figure.subplots(len(series), 1, squeeze=False), series.values(), strict=True):
        axes, speedups = subplots[0], [row.speedup.median for row in rows]
        dates = [datetime.fromisoformat(row.date) for row in rows]
        axes.plot(dates, speedups, ".", markersize=4)
        for place in change_points(speedups):
            axes.axvline(dates[place], color="tab:red", linewidth=1)
            at = (dates[place], 0.02)
            axes.annotate(f" {dates[place]:%Y-%m-%d}", at, xycoords=("data", "axes fraction"), rotation=90)
        axes.set(title=escape_math(rows[0].machine), ylabel=f"speedup of {escape_math(rows[0].scheme)}", ylim=(0, None))
        axes.tick_params(axis="x", rotation=30)
    save_figure(figure, path)
