"""Laws of plots of saved runs: every measured row is drawn at its torch version, and every change point at its date."""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest
from matplotlib.dates import date2num

from lstmq.quantization.schemes import SCHEMES
from lstmq.report import plots
from lstmq.report.plots import PLOTS, check_history_path, plot_history, plot_summaries, plot_svg
from lstmq.report.summaries import group_summaries
from runs import SECONDS, SIZES


def plotted_line(axes, label):
    """Return the points of the line with this label."""
    [line] = [line for line in axes.get_lines() if line.get_label() == label]
    return [*zip(line.get_xdata(), line.get_ydata(), strict=True)]


@pytest.fixture
def rows(summarize):
    """One row for each of three torch versions. The second one is not measured."""
    return [
        summarize(torch="2.13.0"),
        summarize(torch="2.14.0", absent={"int8": "no engine"}),
        summarize(torch="2.15.0", sizes={"int8": 2 * SIZES["int8"]}, run={"limits": {}}),
    ]


@pytest.fixture
def axes(rows, saved_figures, tmp_path):
    """The axes with the speedups, the times and the sizes of ``rows``."""
    plot_summaries(group_summaries(rows), tmp_path / "plot.svg")
    [figure] = saved_figures
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2.13.0", "2.14.0", "2.15.0"]
    return figure.axes


# By torch version.


def test_speedups_are_drawn_with_their_intervals_and_limits(axes, rows):
    [container] = axes[0].containers
    point, _, [bars] = container
    measured = [rows[0], rows[2]]
    assert [*zip(point.get_xdata(), point.get_ydata(), strict=True)] == [
        (0, rows[0].speedup.median),
        (2, rows[2].speedup.median),
    ]
    for row, ((_, lower), (_, upper)) in zip(measured, bars.get_segments(), strict=True):
        assert (lower, upper) == pytest.approx((row.speedup.lower, row.speedup.upper))
    [limits] = [line for line in axes[0].get_lines() if line.get_marker() == "_" and line.get_markersize() == 14]
    assert [*zip(limits.get_xdata(), limits.get_ydata(), strict=True)] == [(0, 2.0)]  # the last run has no limits


def test_times_are_drawn_for_the_scheme_and_for_float32(axes, rows):
    assert plotted_line(axes[1], "int8") == [(0, rows[0].us), (2, rows[2].us)]
    assert plotted_line(axes[1], "float32") == [(0, rows[0].us_float32), (2, rows[2].us_float32)]


def test_sizes_are_drawn_as_stacked_parts_that_add_up(axes, rows):
    heights = {0: 0.0, 2: 0.0}
    for bar in axes[2].patches:
        place = round(bar.get_x() + bar.get_width() / 2)
        assert bar.get_y() == pytest.approx(heights[place])
        heights[place] += bar.get_height()
    assert heights == pytest.approx({0: rows[0].size / 1e6, 2: rows[2].size / 1e6})
    assert {text.get_text() for text in axes[2].get_legend().get_texts()} == {"int8", "rnn", "decoder"}
    assert plotted_line(axes[2], "int8") == [(0, rows[0].size / 1e6), (2, rows[2].size / 1e6)]  # on top
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in axes[2].patches}) == 2  # parts


def test_schemes_differ_in_marker_and_line_and_not_only_in_color(summarize, saved_figures, tmp_path):
    summary = summarize()
    summaries = [replace(summary, scheme=scheme, torch=torch) for scheme in SCHEMES for torch in ("2.13.0", "2.14.0")]
    plot_summaries(group_summaries(summaries), tmp_path / "plot.svg")
    speedups, times, sizes = saved_figures[0].axes
    for axes in speedups, sizes:
        lines = [line for line in axes.get_lines() if line.get_marker() not in ("_", "|", "None")]
        assert len({line.get_marker() for line in lines}) == len(lines) == len(SCHEMES)
    lines = times.get_lines()
    assert len(lines) == len(SCHEMES) + 1  # and float32
    assert len({line.get_marker() for line in lines}) == len(lines)
    assert len({line.get_linestyle() for line in lines}) == 4
    points = sorted(x for container in speedups.containers for x in container[0].get_xdata())
    assert all(after > before for before, after in pairwise(points))  # schemes do not hide one another
    assert all(-0.5 < x - round(x) < 0.5 for x in points)


def test_plot_summaries_draws_a_row_of_plots_for_each_group(summarize, saved_figures, tmp_path):
    groups = group_summaries([summarize(), summarize(machine={"cpu": "another"})])
    plot_summaries(groups, tmp_path / "plot.svg")
    titles = [axes.get_title() for axes in saved_figures[0].axes]
    assert titles == ["a processor (avx2)", "", "", "another (avx2)", "", ""]


def test_plot_of_a_scheme_that_was_never_measured_is_empty(summarize, saved_figures, tmp_path):
    """A warning from matplotlib would fail this test."""
    plot_summaries(group_summaries([summarize(absent={"int8": "no engine"})]), tmp_path / "plot.svg")
    speedups, times, sizes = saved_figures[0].axes
    assert [*times.get_lines()[0].get_xdata()] == [*speedups.get_lines()[0].get_xdata()] == [*sizes.patches] == []


@pytest.mark.parametrize("name", PLOTS)
def test_plot_svg_is_a_picture_that_differs_between_light_and_dark(summarize, name):
    [group] = group_summaries([summarize()])
    light, dark = plot_svg(name, group, dark=False), plot_svg(name, group, dark=True)
    for picture in (light, dark):
        assert b"<svg " in picture
        assert picture.endswith(b"</svg>\n")
    assert light != dark


# Over time.


def on_day(summary, day):
    return replace(summary, date=f"2026-10-{day:02}T12:00:00+00:00")


def test_history_marks_the_first_day_after_a_change_whatever_the_order_of_runs(summarize, saved_figures, tmp_path):
    before, after = summarize(), summarize(seconds={"int8": 1.3 * SECONDS["int8"]})
    history = [on_day(before if day < 13 else after, day) for day in range(1, 25)]
    plot_history(reversed(history), tmp_path / "history.svg")
    [axes] = saved_figures[0].axes
    points, *marks = axes.get_lines()
    assert [*points.get_ydata()] == [row.speedup.median for row in history]
    changed = date2num(datetime.fromisoformat(history[12].date))
    assert [date2num(mark.get_xdata()[0]) for mark in marks] == [changed]
    assert [text.get_text() for text in axes.texts] == [" 2026-10-13"]


def test_history_leaves_out_noisy_runs_and_separates_conditions(summarize, saved_figures, tmp_path):
    noisy = summarize(seconds={"float32 again": 2 * SECONDS["float32 again"]})
    absent = summarize(absent={"int8": "no engine"})
    other = summarize(machine={"cpu": "another"})
    plot_history([summarize(), noisy, absent, other], tmp_path / "history.svg")
    first, second = saved_figures[0].axes
    assert {first.get_title(), second.get_title()} == {"a processor (avx2)", "another (avx2)"}
    assert [len(axes.get_lines()[0].get_ydata()) for axes in (first, second)] == [1, 1]


@pytest.mark.parametrize("name", ["plot.txt", "missing/plot.svg"])
def test_check_history_path_refuses_a_path_that_cannot_be_drawn_to(tmp_path, name):
    with pytest.raises(ValueError, match=r"to draw to"):
        check_history_path(tmp_path / name)


def test_check_history_path_refuses_if_ruptures_is_missing(tmp_path, monkeypatch):
    check_history_path(tmp_path / "history.svg")
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"change points need ruptures: pip install 'lstmq\[history\]'"):
        check_history_path(tmp_path / "history.svg")
