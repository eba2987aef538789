"""Laws: a user's own workload is gated as the built-in one is: limits, baseline, other environment, broken schemes."""

import shutil

import pytest

from benchmarks.suite import CHECKOUT

TAGGER = CHECKOUT / "docs" / "tagger"
SHORT_TAGGER = f"""
import runpy
from dataclasses import replace
from lstmq import Workload

def workload():
    subject = runpy.run_path({str(TAGGER / "tagger.py")!r})["workload"]().speed
    subject = replace(subject, stream=subject.stream.slice(0, 300))
    return Workload(speed=subject, loss=subject)
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def own(run_pytest, tmp_path):
    """A function that runs the benchmarks with options, on a fake clock, for 300 steps of the tagger in docs."""
    (tmp_path / "tagger.py").write_text(SHORT_TAGGER, encoding="utf-8")
    shutil.copy(TAGGER / "limits.toml", tmp_path)

    def run(*options, **sabotage):
        few = [
            "--gate-looks",
            24,
            "--gate-blocks",
            24,
            "--gate-slices",
            1,
            "--benchmark-storage",
            f"file://{tmp_path / 'storage'}",
        ]
        common = [CHECKOUT / "benchmarks", "--gate-workload", "tagger.py:workload", *few]
        return run_pytest(*common, *options, sabotage={"fake_clock": 0.01} | sabotage)

    return run


def test_own_workload_is_judged_by_its_limits_its_baseline_and_another_environment(own, other_python, lstmq, tmp_path):
    first = own("--benchmark-autosave")
    required = ("--benchmark-compare", "--gate-baseline=require")
    second = own(*required, "--gate-against", other_python(fake_clock=0))
    for result in first, second:
        assert result.exit_code == 0, result
        assert "3 passed" in result.output  # float32, int8 and int8-native
        assert {*result.verdicts.values()} == {"PASS", "----"}
    for question in ("against int8 slower", "against int8 kl", "baseline int8 kept speedup", "baseline int8 bytes"):
        assert second.verdicts[question] == "PASS", second
    assert "speed and size: a tagger with seeded weights" in first.output
    judged_again = lstmq("gate", max((tmp_path / "storage").rglob("*.json")))
    assert judged_again.exit_code == 0, judged_again


def test_broken_schemes_fail_with_own_workload(own, tmp_path):
    limits, row = tmp_path / "other_limits.toml", "size_ratio = { at_least = 1.9 }\n"
    limits.write_text(f"[int8]\n{row}[as_float]\n{row}[linear_only]\n{row}", encoding="utf-8")
    result = own("--gate-limits", limits, broken_schemes=True)
    assert result.exit_code == 1, result
    outcomes = {name: result.verdicts[f"limit {name} size_ratio"] for name in ("int8", "as_float", "linear_only")}
    assert outcomes == {"int8": "PASS", "as_float": "FAIL", "linear_only": "FAIL"}


GRU_TAGGER = """
import torch
from torch import nn
from lstmq import Stream, Subject, Workload

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.gru, self.tags = nn.Embedding(50, 32), nn.GRU(32, 32, bidirectional=True), nn.Linear(64, 9)

    def forward(self, words):
        return self.tags(self.gru(self.words(words))[0])

def workload():
    torch.manual_seed(0)
    model = Tagger()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # random weights hardly depend on what they read
    words = torch.randint(50, (300, 2))
    subject = Subject(model=model, stream=Stream(inputs=words, targets=words % 9), origin="seeded weights")
    return Workload(speed=subject, loss=subject)
"""


def test_gate_fails_int8_modules_that_compute_something_else(own, tmp_path):
    broken = ("modules_direction_dropped", "modules_gates_swapped", "modules_column_stale")
    (tmp_path / "tagger.py").write_text(GRU_TAGGER, encoding="utf-8")
    rows = "quantized_share = { at_least = 1 }\nkl = { at_most = 0.001 }\n"
    tables = "".join(f"[{scheme}]\n{rows}" for scheme in ("int8-native", *broken))
    (tmp_path / "limits.toml").write_text(tables, encoding="utf-8")
    result = own(broken_schemes=True)
    assert result.exit_code == 1, result
    assert result.outcomes("int8-native") <= {"PASS", "----"}, result
    for scheme in broken:
        assert result.verdicts[f"limit {scheme} quantized_share"] == "PASS", result
        assert result.verdicts[f"limit {scheme} kl"] == "FAIL", result


def test_own_workload_without_limits_is_a_usage_error(own, tmp_path):
    (tmp_path / "limits.toml").unlink()
    message = f"your own workload needs its own limits: --gate-limits FILE, or {tmp_path}/limits.toml"
    own().check_usage_error(message)
