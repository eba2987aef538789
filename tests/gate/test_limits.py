"""Laws of limits: an invalid file is refused in one line, and a row for the processor's instruction set comes first."""

from pathlib import Path

import pytest

from lstmq.comparison.machine import INSTRUCTION_SETS
from lstmq.gate.judge import judge_limits
from lstmq.gate.limits import OTHER_CASES, Limit, limits_for, load_limits
from lstmq.gate.statistics import exact
from lstmq.gate.verdicts import Outcome
from lstmq.quantization.schemes import SCHEMES

BENCHMARK_LIMITS = Path(__file__).parents[2] / "benchmarks" / "limits.toml"


@pytest.fixture
def limits_file(tmp_path):
    """Return a function that writes a limits file."""

    def write(text):
        path = tmp_path / "limits.toml"
        path.write_text(text, encoding="latin-1")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed", "Expected '='"),
        ("\xff", "utf-8"),
        ("[int8]\nkl = " + "[" * 10_000, ""),
        ("int8 = 3", "expected a table [int8], found 3"),
        ("[int_8]\nspeedup = { at_least = 1 }", "no such case: int_8; expected int8, "),
        ("[int8]\nspeedup = 2", "for int8 speedup, found 2"),
        ("[int8]\nspeedup = {}", "expected at_least or at_most"),
        ("[int8]\nspeedup = { measured = 2 }", "expected at_least or at_most"),
        ("[int8]\nspeedup = { at_leats = 2 }", "at_leats"),
        ("[int8]\nspeedup = { at_least = 1, at_mots = 2 }", "unknown field `at_mots`"),
        ("[int8]\nspeedup = { at_least = 'much' }", "for int8 speedup"),
        ("[int8]\nspeedup = { at_least = 1, at_most = 'little' }", "at_most"),
        ("[int8]\nspeedup = { at_least = 1, measured = 'about 3' }", "measured"),
        ("[int8]\nspeedup = { at_least = [1] }", "at_least"),
        ("[int8]\nspeedup = { at_least = true }", "at_least"),
        ("[int8]\nspeedup = { at_least = nan }", "Expected `float` > -1e+300"),
        ("[int8]\nspeedup = { at_most = inf }", "Expected `float` < 1e+300"),
        ("[int8.avx2]\nspeedup = 2", "for int8 avx2 speedup, found 2"),
        ("[int8.avx2]\nspeedup = { at_least = 'much' }", "for int8 avx2 speedup"),
        ("[int8.avx512]\nspeedup = { at_least = 1 }", "for int8 avx512"),  # no such instruction set
        ("[int8]\navx2 = 3", "for int8 avx2, found 3"),
    ],
)
def test_load_limits_refuses_an_invalid_file_in_one_line(limits_file, text, message):
    path = limits_file(text)
    with pytest.raises(ValueError, match=r"limits\.toml: ") as caught:
        load_limits(path)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_load_limits_raises_an_os_error_without_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_limits(tmp_path / "limits.toml")


def test_load_limits_reads_rows_with_all_fields_and_dates_as_text(limits_file):
    row = 'at_least = 2, at_most = 4.5, measured = 3, date = 2026-11-24, machine = "a machine", command = "pytest"'
    limits = load_limits(limits_file(f"[int8]\nspeedup = {{ {row} }}\n"))
    assert limits_for(limits, "int8", "avx2") == {
        "speedup": Limit(at_least=2, at_most=4.5, measured=3, date="2026-11-24", machine="a machine", command="pytest")
    }


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_row_of_an_instruction_set_replaces_only_the_default_row_of_its_metric(limits_file, isa):
    default = "[int8]\nspeedup = { at_least = 1 }\nkl = { at_most = 2 }\n"
    limits = load_limits(limits_file(f"{default}[int8.{isa}]\nspeedup = {{ at_least = 3 }}\n"))
    assert limits_for(limits, "int8", isa) == {"speedup": Limit(at_least=3), "kl": Limit(at_most=2)}
    for other in {*INSTRUCTION_SETS, "default"} - {isa}:
        assert limits_for(limits, "int8", other) == {"speedup": Limit(at_least=1), "kl": Limit(at_most=2)}
    assert limits_for(limits, "bf16", isa) == {}


def test_limit_as_text_names_its_ends():
    assert str(Limit(at_least=-0.01, at_most=0.01, measured=0)) == "at least -0.01 and at most 0.01"
    assert str(Limit(at_most=1234.5)) == "at most 1234.5"


def test_limits_of_the_benchmarks_say_how_they_were_measured_and_pass_that_measurement():
    limits = load_limits(BENCHMARK_LIMITS)
    assert SCHEMES.keys() <= limits.keys() <= SCHEMES.keys() | {*OTHER_CASES}
    for case in limits:
        assert limits[case].default
        for isa in ("another", *INSTRUCTION_SETS):
            for metric, limit in limits_for(limits, case, isa).items():
                assert limit.date, (case, metric)
                assert limit.machine, (case, metric)
                assert limit.command, (case, metric)
                [verdict, *_] = judge_limits(case, {metric: exact(limit.measured)}, limits, isa)
                assert verdict.outcome is Outcome.PASS, verdict
