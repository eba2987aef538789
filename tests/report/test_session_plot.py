"""Laws of the plot of a session: it shows every ratio, interval and limit, and replaces an old plot only when done."""

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from lstmq.gate.judge import judge_run
from lstmq.gate.limits import CaseLimits, Limit
from lstmq.gate.recording import ratios
from lstmq.gate.verdicts import Outcome
from lstmq.quantization.schemes import FLOAT32
from lstmq.report.session_plot import COLORS, plot_run
from runs import FIDELITY, SECONDS, make_environment, make_run, make_slices

BF16 = make_environment(seconds={"bf16": 2e-2}, sizes={"bf16": 2_000}, fidelity={"bf16": FIDELITY["int8"]})
LIMITS = {scheme: CaseLimits(default={"speedup": Limit(at_least=n)}) for scheme, n in (("int8", 2.5), ("bf16", 9.0))}


@pytest.fixture
def plot(saved_figures, tmp_path):
    """Return a function that plots a run to an SVG file, and returns the axes with the slices and the intervals."""

    def plot(run):
        plot_run(run, judge_run(run), tmp_path / "plot.svg")
        assert (tmp_path / "plot.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
        return saved_figures[-1].axes

    return plot


def find_limits(axes):
    """Return the black lines, which mark limits."""
    return [line.get_xdata()[0] for line in axes.lines if line.get_color() == "black"]


def test_plot_shows_every_ratio_in_the_order_of_reading_and_a_line_between_processes(plot):
    run = make_run(BF16, schemes=("int8", "bf16"), limits=LIMITS)
    slices_axes, _ = plot(run)
    lines = {line.get_label(): line for line in slices_axes.lines if not line.get_label().startswith("_")}
    assert [*lines] == ["int8", "bf16"]
    for scheme, line in lines.items():
        processes = ratios(run.recording.here.seconds[FLOAT32], run.recording.here.seconds[scheme])
        expected = [ratio for process in processes for ratio in process]
        assert [*line.get_xdata()] == [*range(1, len(expected) + 1)]
        assert [*line.get_ydata()] == expected
    borders = [line.get_xdata()[0] for line in slices_axes.lines if line.get_label().startswith("_")]
    assert borders == [4 * number + 0.5 for number in range(1, 12)]


def test_plot_shows_every_interval_in_the_color_of_its_verdict_and_its_limit(plot):
    run = make_run(BF16, schemes=("int8", "bf16"), limits=LIMITS)
    _, interval_axes = plot(run)
    assert [label.get_text() for label in interval_axes.get_yticklabels()] == ["int8", "bf16"]
    expected = (("int8", Outcome.PASS), ("bf16", Outcome.FAIL))
    for place, (container, (scheme, outcome)) in enumerate(zip(interval_axes.containers, expected, strict=True)):
        speedup = run.speedup(scheme)
        point, _, [bar] = container
        assert [*point.get_xdata()] == [speedup.median]
        assert [*point.get_ydata()] == [place]
        [((left, _), (right, _))] = bar.get_segments()
        assert (left, right) == pytest.approx((speedup.lower, speedup.upper))
        assert to_rgba(point.get_color()) == to_rgba(COLORS[outcome])
    assert find_limits(interval_axes) == [2.5, 9.0]


def test_plot_shows_no_limit_that_does_not_apply_to_the_run(plot):
    _, interval_axes = plot(make_run(limits=LIMITS, exempt=["speedup"]))
    assert find_limits(interval_axes) == []
    assert to_rgba(interval_axes.lines[0].get_color()) == to_rgba(COLORS[Outcome.UNJUDGED])


def test_plot_of_a_session_too_short_for_intervals_has_finite_axes(plot):
    run = make_run({model: make_slices(seconds, workers=1, slices=2) for model, seconds in SECONDS.items()})
    slices_axes, interval_axes = plot(run)
    assert len(slices_axes.lines[0].get_xdata()) == 2
    assert all(abs(limit) < 100 for limit in interval_axes.get_xlim())


def test_plot_of_a_session_without_schemes_is_empty(plot):
    """``pytest benchmarks -k float32`` measures none. A warning from matplotlib would fail this test."""
    slices_axes, _ = plot(make_run(cases=[]))
    assert [*slices_axes.lines] == []


def test_interrupted_plot_leaves_the_old_file(tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupt)
    (tmp_path / "plot.png").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        plot_run(make_run(), [], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_text() == "old"
    assert [*tmp_path.iterdir()] == [tmp_path / "plot.png"]
