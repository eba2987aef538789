"""Laws: by default, the gate selects the schemes that can run; a wrong option is a usage error of one line."""

import re
import sys

import pytest

from benchmarks.suite import CHECKOUT
from lstmq import SCHEMES
from lstmq.gate import Outcome

EVALUATION = CHECKOUT / "benchmarks" / "test_evaluation.py"
SLOW = {name for name, scheme in SCHEMES.items() if scheme.slow_without()}
DEFAULT = {"int8", "int8-embedding", "int8-embedding4", "bf16", "int8-native", "ort-int8"} - SLOW

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "schemes"),
    [
        ([], DEFAULT),
        (["--gate-against", sys.executable], {"int8", "int8-native"}),
        (["--gate-against", sys.executable, "--gate-scheme=ort-int8"], {"ort-int8"}),
        (["--gate-scheme=all"], {*SCHEMES} - SLOW),
    ],
    ids=["default", "against", "named", "all"],
)
def test_gate_selects_schemes(run_pytest, options, schemes):
    """Against another environment, the default is torch's int8 and our own, which many sessions were measured for."""
    result = run_pytest(EVALUATION, "--collect-only", "-q", *options)
    assert {*re.findall(r"test_scheme\[(.*)\]", result.output)} == schemes


def test_default_scheme_whose_package_is_missing_is_left_out(run_pytest):
    result = run_pytest(EVALUATION, "-k", "no_such_case", sabotage={"hidden_package": "onnxruntime"})
    assert "left out: ort-int8, which needs ONNX Runtime: pip install 'lstmq[onnxruntime]'" in result.output
    assert result.exit_code == Outcome.NOT_MEASURED.exit_code
    assert "limit ort-int8 all" not in result.verdicts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gate-engine=abacus"], "no engine 'abacus'"),
        (["--gate-corpus=nowhere", "--gate-checkpoint=x"], "no such corpus folder: nowhere"),
        (["--gate-limits", CHECKOUT / "pyproject.toml"], "pyproject.toml: no such case: build-system"),
        (["--gate-scheme=nonsense"], "--gate-scheme: no such scheme: 'nonsense', expected all, int8, "),
        (["--gate-blocks=0"], "--gate-blocks must be at least 1, found 0"),
        (["--gate-looks=24,9"], "expected looks after ascending numbers of blocks"),
        (["--gate-looks=many"], "argument --gate-looks: invalid looks value: 'many'"),
        (["--gate-looks=4", "--gate-blocks=4"], "--gate-looks: 4 blocks are too few for 99% confidence of 3 figures"),
        (["--gate-tolerance=2"], "argument --gate-tolerance: invalid share value: '2'"),
        (["--gate-tolerance=0%"], "tolerance must be between 0 and 1, found 0.0"),
        (["--gate-against=nowhere"], "--gate-against: expected a Python, found nothing to run at nowhere"),
        (["--gate-baseline=require"], "--gate-baseline=require needs --benchmark-compare"),
        (["--benchmark-compare=a/b/missing.json"], "--benchmark-compare: no such file: a/b/missing.json"),
        (["--benchmark-compare=9999"], "--benchmark-compare: no saved run 9999 in "),
        (["--benchmark-compare", CHECKOUT / "benchmarks"], "for the name of a saved run: put it last"),
        (["--benchmark-json=nowhere/run.json"], "no such folder to write to: "),
        (["--benchmark-autosave", "--benchmark-storage=file:///proc/x"], "No such file or directory: '/proc/x'"),
    ],
)
def test_wrong_option_is_a_usage_error_of_one_line(suite, options, message):
    suite(*options).check_usage_error(message)


def test_folder_that_benchmark_compare_swallows_is_a_usage_error(run_pytest):
    """Without a folder of tests, pytest would run the unit tests, and gate nothing."""
    result = run_pytest(CHECKOUT / "tests", "--benchmark-compare", CHECKOUT / "benchmarks")
    result.check_usage_error(f"as in `pytest {CHECKOUT / 'benchmarks'} --benchmark-compare`")
