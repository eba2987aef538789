"""Standings as pictures: side by side, :func:`plot_standings` and :func:`svg`; over time, :func:`plot_history`."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lstmq.figures import check_figure_path, save_figure
from lstmq.quantization import FLOAT32
from lstmq.report.history import SchemeSummary, change_points, version

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tables = Sequence[Sequence[SchemeSummary]]


def _speedups(axes: "Axes", tables: Tables, places: Mapping[str, int]) -> None:
    """Intervals by torch's version, and as short lines the floors."""
    for number, table in enumerate(tables):
        aside = 0.15 * (number - (len(tables) - 1) / 2)
        rows = [each for each in table if each.measured]
        x = [places[each.torch] + aside for each in rows]
        medians = [each.speedup.median for each in rows]
        ends = [
            [each.speedup.median - each.speedup.lower for each in rows],
            [each.speedup.upper - each.speedup.median for each in rows],
        ]
        drawn = axes.errorbar(x, medians, yerr=ends, fmt="o", capsize=3, label=table[0].scheme)
        floors = [(at, each.floor) for at, each in zip(x, rows, strict=True) if each.floor is not None]
        at, floor = zip(*floors, strict=True) if floors else ((), ())
        axes.plot(at, floor, "_", markersize=14, color=drawn[0].get_color())
    axes.set(ylabel="speedup, 99 % interval; a dash: its floor", ylim=(0, None))


def _arms(axes: "Axes", tables: Tables, places: Mapping[str, int]) -> None:
    """Both arms in microseconds per token."""
    for table in tables:
        rows = [each for each in table if each.measured]
        axes.plot([places[each.torch] for each in rows], [each.us for each in rows], "o-", label=table[0].scheme)
    rows = [each for each in tables[0] if each.measured]
    axes.plot([places[each.torch] for each in rows], [each.us_float32 for each in rows], "s--", label=FLOAT32)
    axes.set(ylabel="us/token", ylim=(0, None))


def _sizes(axes: "Axes", tables: Tables, places: Mapping[str, int]) -> None:
    """Megabytes by part, one bar a scheme and version."""
    colours: dict[str, str] = {}
    width = 0.8 / len(tables)
    for number, table in enumerate(tables):
        for each in table:
            bottom = 0.0
            for part, size in each.parts:
                known = part in colours
                colours.setdefault(part, f"C{len(colours)}")
                at = places[each.torch] + width * (number - (len(tables) - 1) / 2)
                label = "_" if known else part
                axes.bar([at], [size / 1e6], 0.9 * width, bottom, color=colours[part], label=label)
                bottom += size / 1e6
    axes.set(ylabel=f"MB: {', '.join(table[0].scheme for table in tables)}")


SUMMARY_CHARTS = {"speedup": _speedups, "us/token": _arms, "size by part": _sizes}


def plot_summaries(groups: Sequence[Tables], path: Path) -> None:
    """Draw all of :data:`STANDINGS`, a row a group, into one file that ``check_plot`` passes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5 * len(groups)), layout="constrained")
    for row, tables in zip(figure.subplots(len(groups), len(SUMMARY_CHARTS), squeeze=False), groups, strict=True):
        row[0].set_title(tables[0][0].where)
        for axes, draw in zip(row, SUMMARY_CHARTS.values(), strict=True):
            _draw(axes, draw, tables)
    save_figure(figure, path)


def chart_svg(name: str, tables: Tables, dark: bool) -> bytes:
    """Return one of :data:`STANDINGS` of comparable tables as SVG without a background."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context("dark_background" if dark else "default"):
        figure = Figure(figsize=(6, 4), layout="constrained")
        _draw(figure.subplots(), SUMMARY_CHARTS[name], tables)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return buffer.getvalue()


def _draw(axes: "Axes", draw: Callable[["Axes", Tables, Mapping[str, int]], None], tables: Tables) -> None:
    versions = sorted({each.torch for table in tables for each in table}, key=version)
    draw(axes, tables, {name: place for place, name in enumerate(versions)})
    axes.set_xticks(range(len(versions)), versions, rotation=30 if len(versions) > 3 else 0)
    axes.set(xlim=(-0.5, len(versions) - 0.5), xlabel="torch")
    if axes.get_legend_handles_labels()[0]:  # not if nothing was measured
        axes.legend(loc="best", fontsize="small")


def check_history(path: Path) -> None:
    """Find out now whether :func:`plot_history` can draw to ``path``; ``ValueError`` if not."""
    check_figure_path(path)
    if find_spec("ruptures") is None:
        raise ValueError("change points need ruptures: pip install 'lstmq[history]'")


def plot_history(stood: Iterable[SchemeSummary], path: Path) -> None:
    """Draw a scheme's speedup over time, a row for what may be compared, and a line at each of its change points."""
    from matplotlib.figure import Figure

    series: dict[tuple[tuple[str, str], ...], list[SchemeSummary]] = {}
    for each in sorted((each for each in stood if each.valid), key=lambda one: one.date):
        series.setdefault(each.conditions, []).append(each)
    figure = Figure(figsize=(10, 3.5 * len(series)), layout="constrained")
    for row, ordered in zip(figure.subplots(len(series), 1, squeeze=False), series.values(), strict=True):
        axes, speedups = row[0], [each.speedup.median for each in ordered]
        dates = [datetime.fromisoformat(each.date) for each in ordered]
        axes.plot(dates, speedups, ".", markersize=4)
        for place in change_points(speedups):
            axes.axvline(dates[place], color="tab:red", linewidth=1)
            at = (dates[place], 0.02)
            axes.annotate(f" {dates[place]:%Y-%m-%d}", at, xycoords=("data", "axes fraction"), rotation=90)
        axes.set(title=ordered[0].where, ylabel=f"{ordered[0].scheme}'s speedup", ylim=(0, None))
        axes.tick_params(axis="x", rotation=30)
    save_figure(figure, path)
