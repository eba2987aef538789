"""Laws: against another environment, a scheme that is 5 % slower fails, and one that is not slower passes.

The first test uses a fake clock, because on a busy machine it takes many processes to see 5 % of real seconds.
"""

import pytest

pytestmark = pytest.mark.slow


def test_scheme_fails_if_5_percent_slower_and_passes_if_equally_fast(suite, other_python):
    against = ("--gate-against", other_python(fake_clock=0))
    sabotage = {"int8_slower": 0.05, "fake_clock": 0.02}
    result = suite(*against, "--gate-scheme=int8", "--gate-scheme=int8-embedding", sabotage=sabotage)
    assert result.exit_code == 1, result
    verdicts = result.verdicts
    assert verdicts.pop("against int8 slower") == "FAIL"
    assert verdicts["against int8-embedding slower"] == "PASS"
    assert ": int8 got slower" in result.output
    assert {*verdicts.values()} == {"PASS", "----"}


def test_scheme_fails_if_10_percent_slower_in_real_seconds(suite, other_python):
    options = ("--gate-against", other_python(), "--gate-slices=8")
    limits = {"int8": "size_ratio = { at_least = 2.772 }"}  # without a limit for the speed, which is noisier
    result = suite(*options, sabotage={"int8_slower": 0.1}, limits=limits, retry=True)
    assert result.exit_code == 1, result
    assert result.verdicts["against int8 slower"] == "FAIL"


@pytest.mark.parametrize("slow_once", ["process", "block"])
def test_scheme_that_is_slow_in_one_process_or_block_only_passes(suite, other_python, tmp_path, slow_once):
    """The machine had a bad moment. A regression is there in every process."""
    options = ("--gate-against", other_python(fake_clock=0), "--gate-looks=24,48", "--gate-blocks=12")
    sabotage = {"fake_clock": 0.01, "slow_once": slow_once, "marker": str(tmp_path / "marker")}
    limits = {"int8": "size_ratio = { at_least = 2.772 }"}
    result = suite(*options, "--gate-slices=8", sabotage=sabotage, limits=limits)
    assert (tmp_path / "marker").exists()
    assert result.exit_code == 0, result
    assert result.verdicts["against int8 slower"] == "PASS"
