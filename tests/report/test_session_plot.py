"""Laws of a session's picture: it shows every ratio, every interval and every floor, or nothing without a warning."""

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from lstmq.gate import judge
from lstmq.gate.processes import HERE
from lstmq.gate.verdicts import Outcome
from lstmq.quantization.schemes import FLOAT32
from lstmq.report import session_plot
from strategies import FAR, SECONDS, a_run, slices

BF16 = {"sizes": {"bf16": 2_000}, "far": {"bf16": FAR["int8"]}}
FLOORS = {"int8": {"speedup": {"at_least": 2.5}}, "bf16": {"speedup": {"at_least": 9.0}}}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Give ``drawn(run)``: its picture's two pairs of axes."""
    figures, real = [], Figure.savefig

    def save(figure, *arguments, **more):
        figures.append(figure)
        real(figure, *arguments, **more)

    monkeypatch.setattr(Figure, "savefig", save)

    def drawn(run):
        session_plot.plot_run(run, judge.judge(run), tmp_path / "plot.svg")
        assert (tmp_path / "plot.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
        return figures[-1].axes

    return drawn


def test_every_ratio_is_drawn_in_the_order_of_reading(drawn):
    run = a_run({"bf16": 2e-2}, schemes=("int8", "bf16"), told=BF16, floors=FLOORS)
    by_slice, _ = drawn(run)
    lines = {line.get_label(): line for line in by_slice.lines if not line.get_label().startswith("_")}
    assert [*lines] == ["int8", "bf16"]
    for scheme, line in lines.items():
        expected = [ratio for worker in run.ratios((HERE, FLOAT32), (HERE, scheme)) for ratio in worker]
        assert [*line.get_xdata()] == [*range(1, len(expected) + 1)]
        assert [*line.get_ydata()] == expected
    borders = [line.get_xdata()[0] for line in by_slice.lines if line.get_label().startswith("_")]
    assert borders == [4 * number + 0.5 for number in range(1, 12)]


def test_every_interval_is_drawn_in_the_colour_of_its_verdict_against_its_floor(drawn):
    run = a_run({"bf16": 2e-2}, schemes=("int8", "bf16"), told=BF16, floors=FLOORS)
    _, intervals = drawn(run)
    assert [label.get_text() for label in intervals.get_yticklabels()] == ["int8", "bf16"]
    for place, (bars, scheme, outcome) in enumerate(
        zip(intervals.containers, ("int8", "bf16"), (Outcome.PASS, Outcome.FAIL), strict=True)
    ):
        speedup = run.speedup(scheme)
        middle, _, [bar] = bars
        assert [*middle.get_xdata()] == [speedup.median]
        assert [*middle.get_ydata()] == [place]
        [(left, right)] = [(ends[0][0], ends[1][0]) for ends in bar.get_segments()]
        assert (left, right) == pytest.approx((speedup.lower, speedup.upper))
        assert to_rgba(middle.get_color()) == to_rgba(session_plot.COLORS[outcome])
    floors = [line.get_xdata()[0] for line in intervals.lines if line.get_color() == "black"]
    assert floors == [2.5, 9.0]


def test_a_floor_that_is_not_for_this_run_is_not_drawn(drawn):
    _, intervals = drawn(a_run(floors=FLOORS, exempt=["speedup"]))
    assert [line for line in intervals.lines if line.get_color() == "black"] == []
    assert to_rgba(intervals.lines[0].get_color()) == to_rgba(session_plot.COLORS[Outcome.UNJUDGED])


def test_a_session_that_is_too_short_for_intervals_is_drawn(drawn):
    short = {name: slices(seconds, workers=1, each=2) for name, seconds in SECONDS.items()}
    by_slice, intervals = drawn(a_run(short))
    assert len(by_slice.lines[0].get_xdata()) == 2
    assert all(abs(limit) < 100 for limit in intervals.get_xlim())


def test_a_session_without_a_scheme_is_drawn_as_nothing(drawn):
    """As of ``-k float32``; a warning would be an error here."""
    by_slice, _ = drawn(a_run(cases=[]))
    assert [*by_slice.lines] == []


def test_what_cannot_be_drawn_leaves_the_old_picture(tmp_path, monkeypatch):
    def fail(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", fail)
    (tmp_path / "plot.png").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        session_plot.plot_run(a_run(), [], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_text() == "old"
    assert [*tmp_path.iterdir()] == [tmp_path / "plot.png"]
