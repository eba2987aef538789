"""Laws of new limits: they pass what was measured, an update keeps their margin, and changes nothing else."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate.judge import judge_run
from lstmq.gate.limits import Limit, limit_row, limits_workload, load_limits, proposed_limit
from lstmq.gate.verdicts import Outcome, worst
from lstmq.gating.new_limits import limits_file, update_limits
from runs import MACHINE, SECONDS, make_environment, make_fidelity, make_run

RATIOS = ["speedup", "size_ratio", "overhead", "over_click", "bytes_per_token"]
DIFFERENCES = ["loss_difference", "kl", "agreement"]
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
PATH = Path("limits.toml")
slowdowns, divergences = st.floats(0.3, 4), st.floats(0.01, 50)


def measured_run(slowdown=1.0, divergence=1.0, **options):
    here = make_environment(
        seconds={"int8": slowdown * SECONDS["int8"]}, fidelity={"int8": make_fidelity(3.0002, 0.001 * divergence, 0.9)}
    )
    return make_run(here, **options)


def read(text, folder):
    path = folder / "limits.toml"
    path.write_text(text, encoding="utf-8")
    return load_limits(path)


@given(
    metric=st.sampled_from(RATIOS + DIFFERENCES),
    measured=st.floats(0.01, 100),
    figure=st.floats(0.01, 100),
    margin=st.floats(0, 0.9),
    ends=st.sampled_from([("at_least",), ("at_most",), ("at_least", "at_most")]),
)
def test_proposed_limit_keeps_the_margin_of_the_old_one(metric, measured, figure, margin, ends):
    """The margin of a ratio is a share, that of a difference is an amount."""
    both = {"at_least": measured * (1 - margin), "at_most": measured * (1 + margin)}
    after = proposed_limit(metric, Limit(measured=measured, **{end: both[end] for end in ends}), figure)
    for end in ("at_least", "at_most"):
        moved = figure * (both[end] / measured) if metric in RATIOS else figure + (both[end] - measured)
        assert getattr(after, end) == (pytest.approx(moved, rel=1e-6, abs=1e-9) if end in ends else None)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.sampled_from(["at_least", "at_most"]))
def test_proposed_limit_has_no_margin_if_the_old_one_does_not_say_what_was_measured(limit, figure, end):
    after = proposed_limit("speedup", Limit(**{end: limit}), figure)
    assert getattr(after, end) == pytest.approx(figure)


@given(ANY_TEXT, ANY_TEXT, st.floats(0.01, 100))
def test_row_is_valid_toml_for_any_command_and_processor_and_rounds_away_from_the_figure(cpu, command, figure):
    """A command may contain backslashes or quotes. A row has four digits."""
    limit, machine = Limit(at_least=figure, at_most=figure), replace(MACHINE, cpu=cpu)
    [[name, row]] = tomllib.loads(limit_row("kl", limit, figure, machine, "2026-11-24", command)).items()
    assert name == "kl"
    assert row.keys() == {"at_least", "at_most", "measured", "date", "machine", "command"}
    assert row["command"] == command
    assert row["machine"] == f"{cpu} (avx2), torch 2.13.0"
    assert str(row["date"]) == "2026-11-24"
    assert figure * 0.999 <= row["at_least"] <= figure <= row["at_most"] <= figure * 1.001


@given(slowdowns, divergences)
def test_run_passes_the_limits_that_were_made_of_it(tmp_path_factory, slowdown, divergence):
    run = measured_run(slowdown, divergence)
    folder = tmp_path_factory.getbasetemp()
    limits = read(limits_file(run, "mine.py:workload", "2026-11-28", "lstmq init"), folder)
    assert limits_workload(folder / "limits.toml") == f"{folder.resolve()}/mine.py:workload"
    assert limits["int8"].by_isa.keys() == {"avx2"}
    assert limits["int8"].by_isa["avx2"].keys() == {"speedup"}
    assert limits["int8"].default.keys() == {"size_ratio", "quantized_share", "loss_difference", "kl"}
    assert worst(judge_run(replace(run, limits=limits))) is Outcome.PASS


@pytest.mark.parametrize(
    ("environment", "metric"),
    [
        ({"seconds": {"int8": 1.6 * SECONDS["int8"]}}, "speedup"),
        ({"sizes": {"int8": 2_020}}, "size_ratio"),
        ({"fidelity": {"int8": make_fidelity(3.01, 0.001, 0.9)}}, "loss_difference"),
        ({"fidelity": {"int8": make_fidelity(3.0002, 0.003, 0.9)}}, "kl"),
    ],
)
def test_new_limits_fail_what_got_worse(tmp_path, environment, metric):
    limits = read(limits_file(measured_run(), "mine.py:workload", "2026-11-28", "lstmq init"), tmp_path)
    verdicts = judge_run(make_run(make_environment(**environment), limits=limits))
    assert [verdict.metric for verdict in verdicts if verdict.outcome is Outcome.FAIL] == [metric]


TEXT = """# A comment.
workload = "mine.py:workload"

[int8]
speedup = { at_least = 9e9 }  # another processor
kl = { at_most = 0.002, measured = 0.001 }  # a row's comment

[int8.avx2]
speedup = { at_least = 2.0, measured = 3.0 }

[int8.avx512_vnni]
speedup = { at_least = 5.0, measured = 6.0 }

[bf16]
kl = { at_most = 1 }
"""


@given(slowdowns, divergences)
def test_update_moves_only_the_rows_that_count_here(tmp_path_factory, slowdown, divergence):
    folder = tmp_path_factory.getbasetemp()
    run = measured_run(slowdown, divergence, limits=read(TEXT, folder))
    text, changes = update_limits(TEXT, run, PATH, "2026-11-28", "lstmq init --update limits.toml")
    assert [(change.case, change.metric) for change in changes] == [("int8", "kl"), ("int8", "speedup")]
    before, after = TEXT.splitlines(), text.splitlines()
    assert [place for place in range(len(before)) if before[place] != after[place]] == [5, 8]
    assert after[5].endswith("}  # a row's comment")
    assert worst(judge_run(replace(run, limits=read(text, folder)))) is Outcome.PASS


def test_update_refuses_rows_that_it_cannot_find(tmp_path):
    text = "[int8.kl]\nat_most = 0.002\n\n[int8.avx2]\nspeedup = { at_least = 2.0 }\n"
    run = measured_run(limits=read(text, tmp_path))
    with pytest.raises(ValueError, match=r"limits.toml: expected a line `kl = \{ ... \}` below \[int8\], found none"):
        update_limits(text, run, PATH, "2026-11-28", "lstmq init")


@pytest.mark.parametrize("value", ["3", '"mine.py"', '"mine.txt:f"', '["mine.py:f"]'])
def test_limits_that_name_no_workload_are_refused(tmp_path, value):
    path = tmp_path / "limits.toml"
    path.write_text(f"workload = {value}\n")
    with pytest.raises(ValueError, match=r'expected workload = "FILE.py:FUNCTION", found '):
        limits_workload(path)
