"""Laws of proposed limits: they let the failed figures pass, with the old margin, and replace no other limit."""

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate.judge import judge_run
from lstmq.gate.limits import CaseLimits, Limit, load_limits, proposed_limit, proposed_limits
from lstmq.gate.statistics import exact
from lstmq.gate.verdicts import Outcome, worst
from runs import MACHINE, SECONDS, judged, make_environment, make_fidelity, make_run

RATIOS = ["speedup", "size_ratio", "overhead", "over_click", "bytes_per_token"]
DIFFERENCES = ["loss_difference", "kl", "agreement"]
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def propose(metric, limit, figure, machine=MACHINE, command="pytest benchmarks"):
    """Return the proposed row as TOML reads it."""
    [[name, row]] = tomllib.loads(proposed_limit(metric, limit, figure, machine, "2026-11-24", command)).items()
    assert name == metric
    assert row.get("at_least", figure) <= figure <= row.get("at_most", figure)
    return row


def propose_all(run):
    return proposed_limits(judge_run(run), run.limits, run.machine, "2026-11-24", "pytest benchmarks")


@given(
    metric=st.sampled_from(RATIOS + DIFFERENCES),
    measured=st.floats(0.01, 100),
    figure=st.floats(0.01, 100),
    margin=st.floats(0, 0.9),
    ends=st.sampled_from([("at_least",), ("at_most",), ("at_least", "at_most")]),
)
def test_proposed_limit_keeps_the_margin_of_the_old_one(metric, measured, figure, margin, ends):
    """The margin of a ratio is a share, that of a difference is an amount. A row has four digits."""
    both = {"at_least": measured * (1 - margin), "at_most": measured * (1 + margin)}
    limit = Limit(measured=measured, **{end: both[end] for end in ends})
    row = propose(metric, limit, figure)
    assert row.keys() == {*ends, "measured", "date", "machine", "command"}
    assert str(row["date"]) == "2026-11-24"
    assert row["command"] == "pytest benchmarks"
    assert row["machine"] == "a processor (avx2), torch 2.13.0"
    assert row["measured"] == pytest.approx(figure, rel=1e-3)
    for end in ends:
        moved = figure * (both[end] / measured) if metric in RATIOS else figure + (both[end] - measured)
        assert row[end] == pytest.approx(moved, rel=1e-3, abs=1e-9)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.sampled_from(["at_least", "at_most"]))
def test_proposed_limit_has_no_margin_if_the_old_one_does_not_say_what_was_measured(limit, figure, end):
    assert propose("speedup", Limit(**{end: limit}), figure)[end] == pytest.approx(figure, rel=1e-3)


@given(ANY_TEXT, ANY_TEXT)
def test_proposed_limit_is_valid_toml_for_any_command_and_processor(cpu, command):
    """A command may contain backslashes or quotes."""
    row = propose("kl", Limit(at_most=1, measured=0.5), 2.0, replace(MACHINE, cpu=cpu), command)
    assert row["command"] == command
    assert row["machine"] == f"{cpu} (avx2), torch 2.13.0"


def accept(run, proposal, path):
    """Return the run with proposed rows in place of its own, as a user would edit the file."""
    path.write_text(proposal, encoding="utf-8")
    limits = dict(run.limits)
    for case, rows in load_limits(path).items():
        old = limits[case]
        assert rows.default.keys() <= old.default.keys()
        limits[case] = CaseLimits(default=old.default | rows.default, by_isa=old.by_isa | rows.by_isa)
    return replace(run, limits=limits)


@given(
    slowdown=st.floats(1.6, 4), divergence=st.floats(2, 50), isa_metric=st.sampled_from(["speedup", "kl", "neither"])
)
def test_proposed_limits_replace_the_failed_ones_and_pass(tmp_path_factory, slowdown, divergence, isa_metric):
    """Each row goes to the table that its old one comes from, which may be that of the instruction set."""
    default = {
        "speedup": Limit(at_least=2.0, measured=3.0),
        "kl": Limit(at_most=0.002, measured=0.001),
        "agreement": Limit(at_least=0.5, measured=0.9),
    }
    by_isa = {"avx2": {isa_metric: default[isa_metric]}} if isa_metric in default else {}
    if by_isa:
        default[isa_metric] = Limit(at_least=9e9, at_most=9e9)  # on this processor, it does not count
    limits = {
        "int8": CaseLimits(default=default, by_isa=by_isa),
        "evaluate": CaseLimits(default={"overhead": Limit(at_most=1.02, measured=1.0)}),
    }
    here = make_environment(
        seconds={"int8": slowdown * SECONDS["int8"]}, fidelity={"int8": make_fidelity(3.0002, 0.001 * divergence, 0.9)}
    )
    run = make_run(here, limits=limits, others={"evaluate": {"overhead": exact(1.0)}})
    failed = {verdict.metric for verdict in judge_run(run) if verdict.outcome is Outcome.FAIL}
    assert "speedup" in failed
    proposal = propose_all(run)
    [table] = tomllib.loads(proposal).values()
    for_isa = table.pop("avx2", {})
    assert for_isa.keys() == failed & {isa_metric}
    assert table.keys() == failed - {isa_metric}
    accepted = accept(run, proposal, tmp_path_factory.getbasetemp() / "limits.toml")
    assert worst(judge_run(accepted)) is Outcome.PASS
    assert propose_all(accepted) == ""


def test_no_limit_is_proposed_for_a_figure_that_failed_for_another_reason():
    """int8 is slower than there, and larger than in the baseline. A limit would change neither."""
    here = make_environment(seconds={"int8": 1.45 * SECONDS["int8"]}, sizes={"int8": 3_000})
    run, baseline = make_run(here, {}), make_run()
    verdicts = judged(run, baseline)
    assert worst(verdicts.values()) is Outcome.FAIL
    assert verdicts["limit", "int8", "speedup"].outcome is Outcome.PASS
    assert proposed_limits(verdicts.values(), run.limits, MACHINE, "2026-11-24", "pytest") == ""
