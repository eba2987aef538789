"""Laws of the gate: what is past its limit fails, what was not measured fails, and the exit code says so."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig, checkpoint
from lstmq.gate import judge, load_floors
from lstmq.quantization import SCHEMES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
numbers = st.floats(-10, 10)


@given(numbers, numbers, st.one_of(numbers, st.just(math.nan)))
def test_a_figure_passes_between_its_limits_and_nowhere_else(low, high, figure):
    floors = {
        "case": {"both": {"at_least": low, "at_most": high}, "one": {"at_least": low}, "other": {"at_most": high}}
    }
    verdicts = judge("case", dict.fromkeys(("both", "one", "other"), figure), floors)
    assert [verdict.passed for verdict in verdicts] == [low <= figure <= high, low <= figure, figure <= high]
    assert all(str(verdict).startswith("pass" if verdict.passed else "FAIL") for verdict in verdicts)


def test_what_has_no_limit_or_is_exempt_is_not_judged_and_says_so():
    floors = {"bf16": {"speedup": {"at_least": 99}}, "int8": {"speedup": {"at_least": 99}}}
    for case, metric, exempt in (
        ("train", "loss", ()),
        ("evaluate", "speedup", ()),
        ("int8", "speedup", {"speedup"}),
    ):
        [verdict] = judge(case, {metric: 1.0}, floors, exempt)
        assert verdict.passed is None
        assert "not judged" in str(verdict)


def test_a_limit_whose_figure_is_not_there_fails():
    """A row that is misspelt, or a figure that is no more, is no pass."""
    passed, missing = judge("int8", {"speedup": 2.0}, {"int8": {"speedup": {"at_least": 1}, "sped": {"at_least": 1}}})
    assert passed.passed
    assert missing.passed is False
    assert "int8 sped nan: expected one of speedup: not measured" in str(missing)


def test_every_limit_of_the_suite_says_what_measured_it_and_passes_what_was_measured():
    floors = load_floors(BENCHMARKS / "floors.toml")
    assert floors.keys() >= SCHEMES.keys()
    for case, rows in floors.items():
        for metric, row in rows.items():
            assert row.keys() >= {"measured", "date", "machine", "command"}
            assert judge(case, {metric: row["measured"]}, floors)[0].passed


@pytest.mark.parametrize(
    "text",
    [
        "speed",
        "[int8]\nspeedup = 2",
        "[int8]\nspeedup = {}",
        "int8 = 3",
        "\xff",
        "[int8]\nspeedup = { at_least = 'much' }",
    ],
)
def test_what_are_no_floors_is_refused_by_name(tmp_path, text):
    (tmp_path / "floors.toml").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"floors\.toml: "):
        load_floors(tmp_path / "floors.toml")


@pytest.fixture
def suite(corpus_folder, tmp_path):
    """Run the schemes' benchmarks on a small model; return the process and pytest-benchmark's own JSON."""
    (corpus_folder / "test.txt").write_text("word2 word3\n" * 200, encoding="utf-8")
    checkpoint.save(LSTMModel(ModelConfig(ntoken=30, ninp=64, nhid=64, nlayers=2)), tmp_path / "model.pth")

    def suite(floors, *more):
        (tmp_path / "floors.toml").write_text(floors, encoding="utf-8")
        model = ["--corpus", corpus_folder, "--checkpoint", tmp_path / "model.pth"]
        command = [sys.executable, "-m", "pytest", BENCHMARKS / "test_evaluation.py", "--pairs", "3", *model, *more]
        command += ["--floors", tmp_path / "floors.toml"]
        command += ["-p", "no:cacheprovider", "--benchmark-json", tmp_path / "run.json"]
        # Without what xdist told this process: pytest-benchmark measures nothing where it takes xdist to be at work.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=100, env=environment)
        run = tmp_path / "run.json"
        return result, json.loads(run.read_text(encoding="utf-8"))["benchmarks"] if run.exists() else []

    return suite


def test_a_regression_of_any_kind_fails_the_suite_and_is_named(suite):
    result, benchmarks = suite("""
        [int8]
        speedup = { at_least = 1000 }
        size_ratio = { at_least = 0.1 }
        [int8-embedding]
        size_ratio = { at_least = 1000 }
        [bf16]
        loss_difference = { at_most = -1 }
    """)
    assert result.returncode == 1
    assert "1 passed" in result.stdout.splitlines()[-1]
    assert "3 failed" in result.stdout.splitlines()[-1]
    for line in (
        "FAIL  int8 speedup",
        "pass  int8 size_ratio",
        "FAIL  int8-embedding size_ratio",
        "FAIL  bf16 loss_difference",
        "----  bf16 speedup",
    ):
        assert line in result.stdout
    info = {each["name"]: each["extra_info"] for each in benchmarks}
    assert len(info) == 4
    for name, extra in info.items():
        assert extra.keys() >= {"loss", "size", "tokens", "torch", "engine", "threads", "cpu"}, name


def test_what_was_not_measured_fails(suite):
    result, _ = suite("", "--benchmark-disable", "-k", "int8")
    assert result.returncode == 1
    assert "not measured: benchmarks are disabled" in result.stdout


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--engine", "abacus"], "no engine 'abacus'"),
        (["--corpus", "nowhere", "--checkpoint", "x", "--pairs", "1"], "no such corpus folder: nowhere"),
        (["--floors", "pyproject.toml"], "pyproject.toml: expected at_least or at_most"),
    ],
)
def test_a_wrong_option_is_a_usage_error_of_one_line(option, message):
    command = [sys.executable, "-m", "pytest", str(BENCHMARKS), "-p", "no:cacheprovider", *option]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=BENCHMARKS.parent)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.count("\n") <= 2
    assert message in result.stderr
