"""Laws: the gate fails each scheme that quantizes wrongly, on the metric that shows it, and passes the correct ones.

It does so with close limits, and with the limits that ``lstmq init`` writes for the correct schemes.
"""

from dataclasses import replace

import pytest

from benchmarks.suite import INT8_LIMITS, LIMITS
from lstmq.gate import Outcome, judge_run, load_limits, read_run
from lstmq.gating.new_limits import limits_file

ORT_LIMITS = INT8_LIMITS.replace("2.772", "3.89").replace("2.7797", "3.8989")
NATIVE_LIMITS = (
    INT8_LIMITS.replace("2.772", "3.8").replace("2.7797", "3.8").replace("0.003, measured = 0.0013", "0.001")
)
# A copy of float32 measures up to 1.2 on a noisy machine.
COPY_LIMITS = INT8_LIMITS.replace("at_least = 1.15", "at_least = 1.4")
BROKEN = {  # the outcomes of each broken scheme, by metric
    "as_float": {"speedup": "FAIL", "size_ratio": "FAIL"},
    "linear_only": {"size_ratio": "FAIL", "kl": "PASS"},
    "lstm_only": {"size_ratio": "FAIL", "kl": "PASS"},
    "scales_off": {"size_ratio": "PASS", "kl": "FAIL"},
    "layer_zeroed": {"size_ratio": "PASS", "kl": "FAIL", "loss_difference": "FAIL"},
    "grown": {"speedup": "PASS", "size_ratio": "FAIL", "kl": "PASS", "loss_difference": "PASS"},
    "native_scales_off": {"size_ratio": "PASS", "kl": "FAIL"},
    "native_tile_dropped": {"size_ratio": "PASS", "kl": "FAIL"},
    "native_falls_back": {"size_ratio": "PASS", "kl": "PASS", "speedup": "FAIL"},
    "ort_as_float": {"size_ratio": "FAIL", "kl": "PASS"},
    "ort_scales_off": {"size_ratio": "PASS", "kl": "FAIL"},
    "ort_gates_in_torchs_order": {"size_ratio": "PASS", "kl": "FAIL", "loss_difference": "FAIL"},
}


def family(broken_scheme):
    """Return the correct scheme that a broken one resembles."""
    return {"ort": "ort-int8", "native": "int8-native"}.get(broken_scheme.partition("_")[0], "int8")


def limits_for(broken_scheme):
    """Return limits for the metrics in :data:`BROKEN` only, because the others may be inconclusive."""
    families = {"int8": INT8_LIMITS, "int8-native": NATIVE_LIMITS, "ort-int8": ORT_LIMITS}
    rows = COPY_LIMITS if broken_scheme == "as_float" else families[family(broken_scheme)]
    return "\n".join(row for row in rows.splitlines() if row.partition(" ")[0] in BROKEN[broken_scheme])


@pytest.mark.slow
def test_gate_fails_every_broken_scheme(suite, tmp_path):
    """One session for all schemes, because each session takes long."""
    page = tmp_path / "page.md"
    correct = LIMITS | {"ort-int8": ORT_LIMITS, "int8-native": NATIVE_LIMITS}
    del correct["bf16"]  # it has no limit for its speed, and is slow where it is emulated
    result = suite(
        "--benchmark-json",
        tmp_path / "run.json",
        sabotage={"broken_schemes": True},
        limits=correct | {name: limits_for(name) for name in BROKEN},
        variables={"GITHUB_STEP_SUMMARY": str(page)},
        retry=True,
    )
    assert result.exit_code == 1
    for name, outcomes in BROKEN.items():
        for metric, outcome in outcomes.items():
            assert result.verdicts[f"limit {name} {metric}"] == outcome, (name, metric, result)
    for scheme in correct:
        assert result.outcomes(scheme) <= {"PASS", "----"}, result

    assert "If these figures are what you want, set new limits: lstmq init --update limits.toml" in result.output
    summary = page.read_text(encoding="utf-8")
    assert summary.startswith("### lstmq: FAIL\n")
    assert "| **FAIL** | limit | as_float | speedup | " in summary
    assert "| PASS | limit | int8 | speedup | " in summary

    run = read_run(tmp_path / "run.json")
    path = tmp_path / "init.toml"
    plan = replace(run.recording.plan, schemes=(*set(run.recording.plan.schemes) - BROKEN.keys(),))
    correct_run = replace(run, recording=replace(run.recording, plan=plan))
    text = limits_file(correct_run, "mine.py:workload", "2026-11-28", "lstmq init")
    path.write_text(text, encoding="utf-8")
    limits = dict(load_limits(path))
    limits |= {name: limits[family(name)] for name in BROKEN}
    verdicts = judge_run(replace(run, limits=limits))
    assert {verdict.case for verdict in verdicts if verdict.outcome is Outcome.FAIL} == BROKEN.keys()
