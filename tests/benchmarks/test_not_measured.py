"""Laws: a gated scheme that is not measured never passes: the gate says why, and exits with code 12."""

import re

import pytest

from lstmq.gate import Outcome

NOT_MEASURED = Outcome.NOT_MEASURED.exit_code

pytestmark = pytest.mark.slow


def test_missing_deselected_and_failing_benchmarks_are_not_measured(suite):
    sabotage = {"dropped_cases": ["test_scheme[int8]"], "failing_cases": ["test_scheme[bf16]"], "fake_clock": 0.01}
    result = suite("-k", "not embedding", sabotage=sabotage)
    assert result.exit_code == NOT_MEASURED, result
    assert "1 failed, 1 passed, 1 deselected" in result.output
    assert result.outcomes("limit") == {"NOT MEASURED"}
    assert result.verdicts.keys() >= {"limit int8 all", "limit int8-embedding all", "limit bf16 all"}


@pytest.mark.parametrize(
    "options", [["--benchmark-disable"], ["--benchmark-skip", "--benchmark-autosave"], ["-n1"]], ids=" ".join
)
def test_suite_that_times_nothing_is_not_measured(suite, options):
    result = suite(*options)
    assert result.exit_code == NOT_MEASURED, result
    assert [*result.verdicts.values()] == ["NOT MEASURED"] * 3


def test_without_dynamic_quantization_only_int8_is_not_measured(suite, lstmq, tmp_path):
    sabotage = {"no_dynamic_quantization": True, "fake_clock": 0.01}
    result = suite("--benchmark-autosave", sabotage=sabotage)
    assert result.exit_code == NOT_MEASURED, result
    assert "2 passed, 2 skipped" in result.output  # float32 and bf16; int8 and int8-embedding
    assert result.verdicts["limit int8 all"] == result.verdicts["limit int8-embedding all"] == "NOT MEASURED"
    assert result.outcomes("bf16") <= {"PASS", "----"}
    assert len(re.findall(r"^NOT MEASURED .*removed in torch \d", result.output, flags=re.MULTILINE)) == 2
    report = lstmq("report", tmp_path / "storage")
    assert report.exit_code == 0
    assert re.search(r"int8 was not measured with torch .*: removed in torch \d", report.output)


def test_worker_that_dies_ends_the_session_with_one_line_and_saves_nothing(suite, tmp_path):
    result = suite("--benchmark-autosave", sabotage={"fake_clock": 0, "kill": "worker"})
    assert result.exit_code == NOT_MEASURED, result
    lines = [line for line in result.output.splitlines() if "the worker here" in line]
    assert sum(line.startswith("FAILED") for line in lines) == 1
    assert [*result.verdicts.values()] == ["NOT MEASURED"] * 3
    assert sum(re.match("NOT MEASURED .* ended, exit code -9", line) is not None for line in lines) == 3
    assert not [*(tmp_path / "storage").rglob("*.json")]
