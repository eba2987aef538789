"""Laws: by default, the gate selects the schemes that can run; a wrong option is a usage error of one line."""

import re
import sys

import pytest

from benchmarks.suite import CHECKOUT
from lstmq import SCHEMES
from lstmq.gate import Outcome

EVALUATION = CHECKOUT / "benchmarks" / "test_evaluation.py"
TORCH_SCHEMES = {"int8", "int8-embedding", "int8-embedding4", "bf16"}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "schemes"),
    [
        ([], TORCH_SCHEMES | {"int8-native", "ort-int8"}),
        (["--gate-against", sys.executable], TORCH_SCHEMES),
        (["--gate-against", sys.executable, "--gate-scheme=ort-int8"], {"ort-int8"}),
        (["--gate-scheme=all"], {*SCHEMES}),
    ],
    ids=["default", "against", "named", "all"],
)
def test_gate_selects_schemes(run_pytest, options, schemes):
    """Against another environment, which usually has another torch, the default is torch's own schemes."""
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
        (["--gate-scheme=nonsense"], "argument --gate-scheme: invalid choice: 'nonsense'"),
        (["--gate-workers=0"], "--gate-workers must be at least 1, found 0"),
        (["--gate-against=nowhere"], "--gate-against: expected a Python, found nothing to run at nowhere"),
        (["--gate-baseline=require"], "--gate-baseline=require needs --benchmark-compare"),
        (["--benchmark-compare=a/b/missing.json"], "--benchmark-compare: no such file: a/b/missing.json"),
    ],
)
def test_wrong_option_is_a_usage_error_of_one_line(suite, options, message):
    suite(*options).check_usage_error(message)
