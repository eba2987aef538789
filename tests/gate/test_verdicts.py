"""Laws of verdicts: a figure beyond its limit fails, NaN fails, and a session without judged figures does not pass."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate.statistics import ConfidenceInterval, exact
from lstmq.gate.verdicts import Outcome, Verdict, decide, format_number, not_measured, worst
from runs import intervals

EXIT_CODES = {  # from the worst outcome to the best
    Outcome.FAIL: 1,
    Outcome.NOT_MEASURED: 12,
    Outcome.INVALID: 11,
    Outcome.INCONCLUSIVE: 10,
    Outcome.PASS: 0,
}
numbers = st.floats(-10, 10)
VERDICT = Verdict(
    question="limit", case="int8", metric="kl", outcome=Outcome.PASS, figure=exact(1.0), limit="at most 2"
)


@given(intervals, numbers, numbers)
def test_decide_passes_whole_intervals_within_the_limit_and_fails_those_outside(interval, low, high):
    """The numbers of the interval are all within a limit, or none is, or some are."""
    for limit, ends in (
        ({"at_least": low}, {interval.lower >= low, interval.upper >= low}),
        ({"at_most": high}, {interval.lower <= high, interval.upper <= high}),
    ):
        expected = {(True,): Outcome.PASS, (False,): Outcome.FAIL}.get(tuple(ends), Outcome.INCONCLUSIVE)
        assert decide(interval, **limit) is expected
    outcome = decide(interval, at_least=low, at_most=high)
    assert (outcome is Outcome.PASS) == (low <= interval.lower and interval.upper <= high)
    assert (outcome is Outcome.FAIL) == (interval.upper < low or interval.lower > high)


@given(numbers, numbers, numbers)
def test_decide_passes_an_exact_figure_between_its_limits_and_fails_any_other(figure, low, high):
    expected = Outcome.PASS if low <= figure <= high else Outcome.FAIL
    assert decide(exact(figure), at_least=low, at_most=high) is expected


@pytest.mark.parametrize("ends", [(math.nan, 1.0), (1.0, math.nan), (math.nan, math.nan)])
@pytest.mark.parametrize("limit", [{"at_least": 0.0}, {"at_most": 2.0}, {"at_least": 0.0, "at_most": 2.0}])
def test_nan_and_infinity_are_invalid(ends, limit):
    assert decide(ConfidenceInterval(median=1.0, lower=ends[0], upper=ends[1]), **limit) is not Outcome.PASS
    assert decide(exact(math.nan), **limit) is Outcome.INVALID
    assert decide(exact(math.inf), **limit) is Outcome.INVALID
    assert decide(exact(1.0), **dict.fromkeys(limit, math.nan)) is Outcome.INVALID


@given(st.lists(st.sampled_from(Outcome), max_size=6))
def test_worst_outcome_decides_the_exit_code_of_the_session(outcomes):
    outcome = worst([replace(VERDICT, outcome=outcome) for outcome in outcomes])
    assert outcome is next((outcome for outcome in EXIT_CODES if outcome in outcomes), Outcome.NOT_MEASURED)
    assert outcome.exit_code == EXIT_CODES[outcome]


def test_worst_of_no_verdict_is_not_measured():
    assert worst([]) is Outcome.NOT_MEASURED
    assert worst([replace(VERDICT, outcome=Outcome.UNJUDGED)]) is Outcome.NOT_MEASURED


def test_exit_codes_differ_from_those_of_pytest_except_for_a_failure():
    reserved = {int(code) for code in pytest.ExitCode} - {0, 1}
    assert reserved.isdisjoint({outcome.exit_code for outcome in Outcome})


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (exact(1.23456), "1.235"),
        (exact(12_345_678), "12,345,678"),  # bytes
        (ConfidenceInterval(median=2.0, lower=1.5, upper=math.inf), "2 [1.5, inf]"),
        (exact(math.nan), ""),
        (None, ""),
    ],
)
def test_figure_text_has_the_interval_if_the_figure_is_noisy(figure, text):
    assert replace(VERDICT, figure=figure).figure_text == text


def test_verdict_as_text_names_outcome_case_metric_figure_and_limit():
    assert str(VERDICT) == "PASS  int8 kl 1: at most 2"
    assert str(replace(VERDICT, details="measured 1.5")) == "PASS  int8 kl 1: at most 2 (measured 1.5)"
    assert str(not_measured("int8", "all", "no such scheme")) == "NOT MEASURED  int8 all: no such scheme"


def test_format_number_shows_all_digits_of_large_numbers_only():
    assert [format_number(number) for number in (9_999.4, 10_000, -12_345.6)] == ["9999", "10,000", "-12,346"]
