"""Laws of the gate: what is past its limit fails, what was not measured is no pass, what is too noisy is not judged."""

import copy
import itertools
import math
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq.gate import baseline, judge, paired
from lstmq.gate.judge import is_noisy, judge_limits, judge_run, judge_scheme, judge_session
from lstmq.gate.limits import limits_for
from lstmq.gate.processes import HERE, THERE
from lstmq.gate.proposals import proposed_limits
from lstmq.gate.statistics import ConfidenceInterval, exact, interval_over_processes
from lstmq.gate.verdicts import Outcome, decide, not_measured, worst
from lstmq.gate.worker import FLOAT32_COPY
from lstmq.quantization.schemes import FLOAT32
from strategies import FAR, MACHINE, SECONDS, SIZES, a_run, noisy_runs, slices

GOODNESS = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}
EXIT_CODES = {
    Outcome.FAIL: 1,
    Outcome.NOT_MEASURED: 12,
    Outcome.INVALID: 11,
    Outcome.INCONCLUSIVE: 10,
    Outcome.PASS: 0,
}
numbers = st.floats(-10, 10)
intervals = st.tuples(numbers, numbers, numbers).map(sorted)
SIZE_ONLY = {"int8": {"size_ratio": {"at_least": 1}}}
LIMITS = {"speedup": {"at_least": 2.0}, "kl": {"at_most": 0.003}, "agreement": {"at_least": 0.5, "at_most": 1}}


def by_figure(verdicts):
    return {(each.question, each.case, each.metric): each for each in verdicts}


def outcomes(verdicts):
    return {key: each.outcome for key, each in by_figure(verdicts).items()}


def outcome_of(run, question, metric, baseline=None):
    return by_figure(judge_run(run, baseline))[question, "int8", metric].outcome


def changed(run, change, environment=HERE, arm="int8"):
    """Return the run with ``change(worker, slice, seconds)`` for an arm's seconds."""
    run = copy.deepcopy(run)
    workers = run.recording.seconds[environment][arm]
    workers[:] = [[change(number, place, t) for place, t in enumerate(worker)] for number, worker in enumerate(workers)]
    return run


# Deciding.


@given(intervals, numbers, numbers)
def test_what_clears_its_limits_at_the_worse_end_passes_and_what_does_not_at_the_better_fails(ends, low, high):
    """One limit: every number of the interval clears it, none does, or some do."""
    lower, median, upper = ends
    figure = ConfidenceInterval(median=median, lower=lower, upper=upper)
    for limit, clears in (
        ({"at_least": low}, lambda number: number >= low),
        ({"at_most": high}, lambda number: number <= high),
    ):
        of_ends = {clears(lower), clears(upper)}
        expected = {(True,): Outcome.PASS, (False,): Outcome.FAIL}.get(tuple(of_ends), Outcome.INCONCLUSIVE)
        assert decide(figure, **limit) is expected
    both = decide(figure, at_least=low, at_most=high)
    assert (both is Outcome.PASS) == (low <= lower and upper <= high)
    assert (both is Outcome.FAIL) == (upper < low or lower > high)


@given(numbers, numbers, numbers)
def test_an_exact_figure_passes_between_its_limits_and_fails_everywhere_else(figure, low, high):
    passes = low <= figure <= high
    assert decide(exact(figure), at_least=low, at_most=high) is (Outcome.PASS if passes else Outcome.FAIL)


@pytest.mark.parametrize("ends", [(math.nan, 1.0), (1.0, math.nan), (math.nan, math.nan)])
@pytest.mark.parametrize("limit", [{"at_least": 0.0}, {"at_most": 2.0}, {"at_least": 0.0, "at_most": 2.0}])
def test_nan_is_no_pass(ends, limit):
    assert decide(ConfidenceInterval(median=1.0, lower=ends[0], upper=ends[1]), **limit) is not Outcome.PASS
    assert decide(exact(math.nan), **limit) is Outcome.FAIL
    assert decide(exact(1.0), **dict.fromkeys(limit, math.nan)) is Outcome.FAIL


@given(st.lists(st.sampled_from(Outcome), max_size=6))
def test_the_worst_outcome_is_the_sessions_and_has_its_own_exit_code(found):
    verdicts = [replace(not_measured("int8", "speedup", ""), outcome=outcome) for outcome in found]
    expected = next((outcome for outcome in EXIT_CODES if outcome in found), None)
    if expected:
        assert worst(verdicts) is expected
        assert worst(verdicts).exit_code == EXIT_CODES[expected]
    else:
        assert worst(verdicts).exit_code == 12


def test_the_exit_codes_are_none_of_pytests_own_but_that_of_a_failure():
    own = {int(code) for code in pytest.ExitCode} - {0, 1}
    assert own.isdisjoint({outcome.exit_code for outcome in Outcome})


# Floors.


@given(st.sampled_from(["speedup", "kl", "agreement"]), intervals)
def test_a_figure_is_held_against_its_row(metric, ends):
    lower, median, upper = ends
    figure = ConfidenceInterval(median=median, lower=lower, upper=upper)
    [verdict] = judge_limits("int8", {metric: figure}, {"int8": {metric: LIMITS[metric]}}, "avx2")
    assert verdict.outcome is decide(figure, **LIMITS[metric])
    assert (verdict.question, verdict.case, verdict.metric, verdict.figure) == ("floor", "int8", metric, figure)
    assert str(verdict).startswith(f"{verdict.outcome}  int8 {metric} ")


def test_what_has_no_limit_or_is_exempt_is_shown_and_not_judged():
    floors = {"bf16": {"speedup": {"at_least": 99}}, "int8": {"speedup": {"at_least": 99}}}
    for case, metric, exempt in (("train", "loss", ()), ("evaluate", "speedup", ()), ("int8", "speedup", {"speedup"})):
        [verdict] = judge_limits(case, {metric: exact(1.0)}, floors, "avx2", exempt)
        assert verdict.outcome is Outcome.UNJUDGED
        assert verdict.shown == "1"
        assert worst([verdict, replace(verdict, outcome=Outcome.PASS)]).exit_code == 0
        assert "limit" in verdict.limit


def test_a_row_of_the_processors_instructions_is_the_one_that_judges():
    floors = {"int8": {"speedup": {"at_least": 1.4}, "avx512_vnni": {"speedup": {"at_least": 2.2}}}}
    for isa, expected in (("avx2", Outcome.PASS), ("avx512_vnni", Outcome.FAIL)):
        run = a_run({"int8": SECONDS[FLOAT32] / 2}, floors=floors, told={"machine": {"isa": isa}})
        assert outcome_of(run, "floor", "speedup") is expected


def test_a_row_whose_figure_is_not_there_is_not_measured():
    """A row that is misspelt, or a figure that is no more, is no pass."""
    run = a_run(floors={"int8": {"speedup": {"at_least": 1}, "sped": {"at_least": 1}}})
    assert outcome_of(run, "floor", "speedup") is Outcome.PASS
    assert outcome_of(run, "floor", "sped") is Outcome.NOT_MEASURED
    assert worst(judge_run(run)) is Outcome.NOT_MEASURED


def test_a_figure_past_its_limit_says_what_it_was_and_where():
    row = {"at_least": 99, "measured": 100, "date": "2026-11-22", "machine": "an idle machine", "command": "pytest"}
    run = a_run(floors={"int8": {"speedup": row}})
    verdict = by_figure(judge_run(run))["floor", "int8", "speedup"]
    assert verdict.outcome is Outcome.FAIL
    arms = f"int8 {run.us_per_token(HERE, 'int8'):.1f} us/token; float32 {run.us_per_token(HERE, FLOAT32):.1f}"
    assert verdict.details == f"{arms}; it was 100 on 2026-11-22, an idle machine"


@pytest.mark.parametrize("metric", ["speedup", "size_ratio", "loss_difference", "kl", "agreement"])
@pytest.mark.parametrize("side", ["at_least", "at_most"])
def test_every_figure_of_a_scheme_can_have_a_floor(metric, side):
    run = a_run()
    median = run.figures("int8")[metric].median
    near = 0.01 * abs(median) * (-1 if side == "at_least" else 1)
    for limit, expected in ((median + near, Outcome.PASS), (median - near, Outcome.FAIL)):
        judged = a_run(floors={"int8": {metric: {side: limit}}})
        assert outcome_of(judged, "floor", metric) is expected


# What was not measured.


def test_a_scheme_whose_benchmark_did_not_end_is_not_measured():
    verdicts = judge_run(a_run({"bf16": 1e-2}, schemes=("int8", "bf16"), told=TWO, cases=["int8"]))
    assert outcomes(verdicts)["floor", "bf16", "all"] is Outcome.NOT_MEASURED
    assert outcomes(verdicts)["floor", "int8", "speedup"] is Outcome.PASS
    assert worst(verdicts) is Outcome.NOT_MEASURED


def test_a_scheme_that_the_floors_have_no_row_of_is_not_measured():
    """A table that is misspelt, or floors without anything in them, are no pass."""
    for floors in ({}, {"int8-embedding": {"speedup": {"at_least": 1}}}, {"int8": {"avx512_vnni": {}}}):
        verdict = by_figure(judge_run(a_run(floors=floors)))["floor", "int8", "all"]
        assert verdict.outcome is Outcome.NOT_MEASURED
        assert "no row" in verdict.limit


def test_a_case_that_the_floors_have_rows_of_is_not_measured_if_it_did_not_end():
    floors = a_run().floors | {"train": {"overhead": {"at_most": 1.05}}}
    verdict = by_figure(judge_run(a_run(floors=floors)))["floor", "train", "all"]
    assert verdict.outcome is Outcome.NOT_MEASURED
    figures = {"train": {"overhead": {"median": 1.0, "lower": 1.0, "upper": 1.0}}}
    assert worst(judge_run(a_run(floors=floors, others=figures))) is Outcome.PASS


def test_losses_of_other_windows_are_not_compared():
    baseline = a_run()
    told = baseline.recording.environments[HERE]["fidelity"]["int8"]
    told["losses"], told["tokens"] = told["losses"][:-1], told["tokens"][:-1]
    assert outcome_of(a_run(), "baseline", "loss moved", baseline) is Outcome.NOT_MEASURED


def test_a_case_that_failed_for_no_figure_fails_the_run():
    verdicts = judge_run(a_run(failures=["test_corpus.py::test_corpus"]))
    assert outcomes(verdicts)["case", "test_corpus.py::test_corpus", "all"] is Outcome.FAIL
    assert worst(verdicts) is Outcome.FAIL


TWO = {"sizes": {"bf16": 2_000}, "far": {"bf16": FAR["int8"]}}


@pytest.mark.parametrize("cases", [[], ["int8"]])
def test_a_scheme_that_torch_cannot_do_is_not_measured_and_says_why(cases):
    run = a_run(told={"absent": {"int8": "no dynamic quantization"}}, cases=cases)
    del run.recording.seconds[HERE]["int8"]
    verdict = by_figure(judge_run(run))["floor", "int8", "all"]
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert verdict.limit == "no dynamic quantization"


def test_a_scheme_that_is_not_in_the_other_environment_is_not_measured_there_and_says_why():
    run = a_run(there={}, told_there={"absent": {"int8": "no such scheme"}})
    del run.recording.seconds[THERE]["int8"]
    verdict = by_figure(judge_run(run))["against", "int8", "slower"]
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert "no such scheme" in verdict.limit
    assert outcome_of(run, "floor", "speedup") is Outcome.PASS


def test_a_scheme_that_is_not_in_the_baseline_is_not_judged_by_it_and_says_so():
    baseline = a_run(cases=[])
    del baseline.recording.seconds[HERE]["int8"]
    verdicts = by_figure(judge_run(a_run(), baseline))
    assert verdicts["baseline", "int8", "kept speedup"].outcome is Outcome.UNJUDGED
    assert "no such scheme" in verdicts["baseline", "int8", "kept speedup"].limit
    assert worst(verdicts.values()) is Outcome.PASS


def test_no_verdict_at_all_is_no_pass():
    assert worst([]) is Outcome.NOT_MEASURED
    assert worst([not_measured("int8", "all", "")]).exit_code == 12


@pytest.mark.parametrize("metric", ["kl", "agreement", "loss_difference"])
def test_a_model_that_computes_nan_fails(metric):
    nan = {"far": {"int8": (math.nan, math.nan, math.nan)}}
    floors = {"int8": {metric: {"at_least": -1e9, "at_most": 1e9}}}
    run = a_run(there={}, told=nan, floors=floors)
    found = outcomes(judge_run(run, a_run()))
    assert found["floor", "int8", metric] is Outcome.FAIL
    for question in ("against", "baseline"):
        assert found[question, "int8", "loss moved"] is found[question, "int8", "kl"] is Outcome.FAIL


# Against another environment, and a baseline.


@pytest.mark.parametrize("change", [0.5, 0.9, 0.98, 1.0, 1.02])
def test_int8_that_is_faster_or_hardly_slower_than_there_passes(change):
    run = a_run({"int8": change * SECONDS["int8"]}, {})
    assert outcome_of(run, "against", "slower") is Outcome.PASS
    assert worst(judge_run(run)) is Outcome.PASS


@pytest.mark.parametrize("change", [1.03, 1.05, 1.1, 2.0])
def test_int8_that_is_slower_than_there_fails_however_fast_float32_is(change):
    for float32 in (0.5, 1, 2):
        here = {
            "int8": change * SECONDS["int8"],
            FLOAT32: float32 * SECONDS[FLOAT32],
            FLOAT32_COPY: float32 * SECONDS[FLOAT32_COPY],
        }
        assert outcome_of(a_run(here, {}, floors=SIZE_ONLY), "against", "slower") is Outcome.FAIL


def test_what_is_just_as_slow_as_allowed_is_inconclusive():
    run = a_run({"int8": (1 + paired.AGAINST_TOLERANCE) * SECONDS["int8"]}, {})
    verdict = by_figure(judge_run(run))["against", "int8", "slower"]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "--workers 12" in verdict.details


@pytest.mark.parametrize(("change", "expected"), [(0.5, Outcome.PASS), (1.0, Outcome.PASS), (1.3, Outcome.PASS)])
def test_a_baselines_speedup_may_be_lost_in_part(change, expected):
    assert outcome_of(a_run({"int8": change * SECONDS["int8"]}), "baseline", "kept speedup", a_run()) is expected


def test_more_of_a_baselines_speedup_may_not_be_lost():
    lost = {"int8": 1.4 * SECONDS["int8"]}
    assert outcome_of(a_run(lost), "baseline", "kept speedup", a_run()) is Outcome.FAIL
    at_the_limit = {"int8": SECONDS["int8"] / (1 - paired.BASELINE_TOLERANCE)}
    assert outcome_of(a_run(at_the_limit), "baseline", "kept speedup", a_run()) is Outcome.INCONCLUSIVE


SHORT = {name: slices(seconds, workers=2) for name, seconds in SECONDS.items()}


def test_too_few_slices_for_an_interval_are_no_regression():
    """Two workers of four slices have none: its ends are infinite, which says nothing of unchanged code."""
    assert math.isinf(a_run(SHORT).speedup("int8").upper)
    for baseline in (a_run(), a_run(SHORT)):
        assert outcome_of(a_run(SHORT), "baseline", "kept speedup", baseline) is Outcome.INVALID
    assert outcome_of(a_run(), "baseline", "kept speedup", a_run(SHORT)) is Outcome.INCONCLUSIVE


ANOTHER = {"told": {"machine": {"cpu": "another"}}}
NOISY = {"here": {FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY]}}
FAILED = {"outcome": "FAIL"}
PARTIAL = {"cases": []}


def test_a_run_that_was_too_noisy_or_of_other_conditions_is_not_compared_with():
    now = a_run().conditions
    assert baseline.why_not_comparable(now, a_run()) == []
    [noisy] = baseline.why_not_comparable(now, a_run(**NOISY))
    assert "noisy" in noisy
    assert baseline.why_not_comparable(now, a_run(SHORT)) == [noisy]
    assert baseline.why_not_comparable(now, a_run(there={FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY]})) == [noisy]
    assert baseline.why_not_comparable(now, a_run(**ANOTHER)) == ["cpu a processor now, another then"]


@pytest.mark.parametrize(
    ("found", "chosen", "told"),
    [
        ([{}, {}], 0, "the run of 0"),
        ([FAILED, {}, {}], 1, "the run of 1"),  # so that what failed yesterday fails today
        ([ANOTHER, NOISY, FAILED, {}], 3, "the run of 3"),
        ([FAILED], None, "the run of 0 cannot be compared with: it did not pass itself: FAIL"),
        ([{"outcome": ""}], None, "the run of 0 cannot be compared with: it did not pass itself"),
        ([PARTIAL, {}], 1, "the run of 1"),  # so that a run of one scheme does not hide the others
        ([PARTIAL, ANOTHER], 0, "the run of 0, though it has no int8"),
        ([NOISY, ANOTHER], None, "the run of 0 cannot be compared with: it was too noisy"),
        ([], None, "no saved run was found; judged by floors alone"),
    ],
)
def test_the_newest_run_that_passed_and_has_every_scheme_is_compared_with(found, chosen, told):
    runs = [a_run(**each, date=str(place)) for place, each in enumerate(found)]
    for place, each in enumerate(found):
        if each is PARTIAL:
            del runs[place].recording.seconds[HERE]["int8"]
    run, which = baseline.select_baseline(iter(runs), a_run().conditions, ["int8"])
    assert run is (None if chosen is None else runs[chosen])
    assert which.startswith(told)
    if chosen is None:
        assert which.endswith("; judged by floors alone")
        with pytest.raises(ValueError, match=f"require: {told.partition(';')[0]}"):
            baseline.select_baseline(runs, a_run().conditions, ["int8"], required=True)


def test_a_run_that_failed_is_accepted_by_naming_it_and_not_before_a_better_one():
    now = a_run().conditions
    failed, passed = a_run(**FAILED, date="1"), a_run(date="0")
    run, which = baseline.select_baseline([failed], now, named=True)
    assert run is failed
    assert which == "the run of 1, though it did not pass itself: FAIL"
    assert baseline.select_baseline([failed, passed], now, named=True) == (passed, "the run of 0")


def test_no_more_runs_are_read_than_need_be():
    read = iter([a_run(), a_run()])
    baseline.select_baseline(read, a_run().conditions)
    assert next(read)


def test_a_required_baseline_has_all_that_is_compared():
    baseline, now = a_run(), a_run().conditions
    assert baseline.select_baseline([baseline], now, ["int8"], required=True)[0] is baseline
    with pytest.raises(ValueError, match="it has no bf16"):
        baseline.select_baseline([baseline], now, ["int8", "bf16"], required=True)


@pytest.mark.parametrize("question", ["against", "baseline"])
@pytest.mark.parametrize(
    ("metric", "told", "outcome"),
    [
        ("bytes", {"sizes": {"int8": SIZES["int8"]}}, Outcome.PASS),
        ("bytes", {"sizes": {"int8": SIZES["int8"] - 1}}, Outcome.PASS),
        ("bytes", {"sizes": {"int8": SIZES["int8"] + 1}}, Outcome.FAIL),
        ("loss moved", {"far": {"int8": (3.0002 + 0.9 * paired.MAX_LOSS_INCREASE, 0.001, 0.9)}}, Outcome.PASS),
        ("loss moved", {"far": {"int8": (3.0002 + 1.1 * paired.MAX_LOSS_INCREASE, 0.001, 0.9)}}, Outcome.FAIL),
        ("loss moved", {"far": {"int8": (2.0, 0.001, 0.9)}}, Outcome.PASS),
        ("kl", {"far": {"int8": (3.0002, 0.001 * 0.99 * paired.MAX_KL_RATIO, 0.9)}}, Outcome.PASS),
        ("kl", {"far": {"int8": (3.0002, 0.001 * 1.01 * paired.MAX_KL_RATIO, 0.9)}}, Outcome.FAIL),
        ("kl", {"far": {"int8": (3.0002, 0.0, 0.9)}}, Outcome.PASS),
    ],
)
def test_bytes_losses_and_divergence_may_not_be_worse_than_they_were(question, metric, told, outcome):
    run = a_run(there={} if question == "against" else None, told=told)
    baseline = a_run() if question == "baseline" else None
    found = outcomes(judge_run(run, baseline))
    assert found[question, "int8", metric] is outcome
    rest = {outcome for key, outcome in found.items() if key != (question, "int8", metric)}
    assert rest <= {Outcome.PASS, Outcome.UNJUDGED}


def test_a_file_of_another_torch_may_be_larger_by_its_container_and_no_more():
    for more, outcome in (
        (1, Outcome.PASS),
        (paired.FILE_FORMAT_BYTES, Outcome.PASS),
        (paired.FILE_FORMAT_BYTES + 1, Outcome.FAIL),
    ):
        told = {"sizes": {"int8": SIZES["int8"] + more}, "machine": {"torch": "2.14.0"}}
        found = outcomes(judge_run(a_run(there={}, told=told), a_run()))
        assert found["against", "int8", "bytes"] is found["baseline", "int8", "bytes"] is outcome


@pytest.mark.parametrize(
    ("int8", "float32", "moved"),
    [
        (1.2, 1.0, "int8 got slower"),
        (0.8, 1.0, "int8 got faster"),
        (1.0, 0.8, "float32 got faster"),
        (1.0, 1.2, "float32 got slower"),
        (1.2, 0.8, "int8 got slower and float32 got faster"),
        (1.01, 0.99, "neither moved"),
    ],
)
def test_the_details_say_which_arm_moved_and_both_in_microseconds_a_token(int8, float32, moved):
    here = {"int8": int8 * 1e-2, FLOAT32: float32 * 3e-2, FLOAT32_COPY: float32 * 3e-2}
    here = {name: slices(seconds, noise=0) for name, seconds in here.items()}
    before = {name: slices(seconds, noise=0) for name, seconds in SECONDS.items()}
    told = by_figure(judge_run(a_run(here, before), a_run(before)))
    for question, metric, other in (("against", "slower", "there"), ("baseline", "kept speedup", "then")):
        expected = f"int8 {100 * int8:.1f} us/token, {other} 100.0; float32 {300 * float32:.1f}, {other} 300.0: {moved}"
        assert told[question, "int8", metric].details.startswith(expected)


# The session itself.


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        (1.0, "PASS"),
        (1 + 0.9 * judge.COPY_TOLERANCE, "PASS"),
        (1 - 0.9 * judge.COPY_TOLERANCE, "PASS"),
        (1.05, "INVALID"),
    ],
)
def test_float32_and_its_copy_are_equally_fast_or_nothing_can_be_judged(off, expected):
    for change in (off, 1 / off):
        [verdict] = judge_session(a_run({FLOAT32_COPY: change * SECONDS[FLOAT32_COPY]}))
        assert verdict.outcome.value == expected
        assert verdict.figure.median == pytest.approx(1 / change, rel=0.002)


@pytest.mark.parametrize("side", [HERE, THERE])
def test_a_copy_that_differs_in_either_environment_makes_the_session_invalid(side):
    off = {FLOAT32_COPY: 1.1 * SECONDS[FLOAT32_COPY]}
    run = a_run(off if side == HERE else {}, off if side == THERE else {})
    assert is_noisy(run)
    assert not is_noisy(a_run(there={}))
    found = {each.metric: each.outcome for each in judge_session(run)}
    invalid = f"over its own copy{', there' * (side == THERE)}"
    assert {metric for metric, outcome in found.items() if outcome is Outcome.INVALID} == {invalid}
    verdict = by_figure(judge_run(run))["against", "int8", "slower"]
    assert verdict.outcome is Outcome.INVALID
    assert verdict.details.startswith("too noisy to judge here; int8 100.")


def test_a_session_whose_copies_differ_from_process_to_process_is_invalid():
    for spread, expected in ((judge.COPY_MAX_WIDTH / 2, Outcome.PASS), (2 * judge.COPY_MAX_WIDTH, Outcome.INVALID)):
        apart = a_run({FLOAT32_COPY: SECONDS[FLOAT32_COPY]})
        apart = changed(apart, lambda worker, _, t, by=spread: t * (1 + by * (worker / 11 - 0.5)), arm=FLOAT32_COPY)
        assert is_noisy(apart) == (expected is Outcome.INVALID)


def test_a_session_that_is_too_short_for_an_interval_is_invalid():
    short = {name: slices(seconds, workers=1) for name, seconds in SECONDS.items()}
    assert is_noisy(a_run(short))


def test_of_an_invalid_session_only_what_is_not_noisy_is_judged():
    """Bytes, losses and divergence are the same on any machine."""
    worse = {"sizes": {"int8": SIZES["int8"] + 1}, "far": {"int8": (3.1, 0.1, 0.9)}}
    floors = {"int8": {"speedup": {"at_least": 99}, "kl": {"at_most": 0.01}, "size_ratio": {"at_least": 1}}}
    run = a_run({FLOAT32_COPY: 1.5 * SECONDS[FLOAT32_COPY], "int8": 2e-2}, {}, told=worse, floors=floors)
    found = outcomes(judge_run(run, a_run()))
    for question, metric in (("floor", "speedup"), ("against", "slower"), ("baseline", "kept speedup")):
        assert found[question, "int8", metric] is Outcome.INVALID
    for question, metric in itertools.product(("against", "baseline"), ("bytes", "loss moved", "kl")):
        assert found[question, "int8", metric] is Outcome.FAIL
    assert found["floor", "int8", "kl"] is Outcome.FAIL
    assert found["floor", "int8", "size_ratio"] is Outcome.PASS
    assert found["session", FLOAT32, "over its own copy"] is Outcome.INVALID
    invalid = a_run({FLOAT32_COPY: 1.5 * SECONDS[FLOAT32_COPY]})
    assert worst(judge_run(invalid)) is Outcome.INVALID


# Properties of whole runs.


@given(noisy_runs(there=True, calm=True), noisy_runs(calm=True), st.randoms())
def test_slower_int8_is_never_better_off(run, baseline, random):
    """Slices may be slowed by as much as one likes, each on its own."""
    before = judge_run(run, baseline)
    factors = random.choice([[1, 1.01], [1.05], [1, 1, 1, 10], [1.5, 2]])
    after = outcomes(judge_run(changed(run, lambda *at: at[-1] * random.choice(factors)), baseline))
    for question, metric in (("floor", "speedup"), ("against", "slower"), ("baseline", "kept speedup")):
        was = by_figure(before)[question, "int8", metric].outcome
        assert GOODNESS[after[question, "int8", metric]] <= GOODNESS[was]


@settings(max_examples=60)
@given(noisy_runs(), noisy_runs(), st.integers(-8, 8), st.randoms())
def test_a_machine_that_is_slower_in_all_and_the_order_of_rounds_change_no_verdict(run, baseline, power, random):
    """By a power of two, so that no rounding is in it; rounds of a worker change places with all that was read."""
    before = outcomes(judge_run(run, baseline))
    orders = [random.sample(range(len(worker)), len(worker)) for worker in run.recording.slices]
    slower = copy.deepcopy(run)
    for environment, arms in run.recording.seconds.items():
        for arm, workers in arms.items():
            slower.recording.seconds[environment][arm] = [
                [2.0**power * worker[place] for place in order] for worker, order in zip(workers, orders, strict=True)
            ]
    assert outcomes(judge_run(slower, baseline)) == before


@given(noisy_runs(there=True))
def test_the_verdicts_are_those_of_the_intervals_over_workers(run):
    found = by_figure(judge_run(run))
    seconds = run.recording.seconds

    def ratios(above, below):
        pairs = zip(seconds[above[0]][above[1]], seconds[below[0]][below[1]], strict=True)
        return interval_over_processes([[x / y for x, y in zip(*pair, strict=True)] for pair in pairs])

    valid = not is_noisy(run)
    slower, faster = ratios((HERE, "int8"), (THERE, "int8")), ratios((HERE, FLOAT32), (HERE, "int8"))
    for verdict, figure, limit in (
        (found["against", "int8", "slower"], slower, {"at_most": 1.025}),
        (found["floor", "int8", "speedup"], faster, {"at_least": 2.0}),
    ):
        assert verdict.figure == figure
        noisy = figure.lower < figure.upper
        assert verdict.outcome is (decide(figure, **limit) if valid or not noisy else Outcome.INVALID)


def test_slices_that_float32_did_not_read_are_of_int8_alone():
    """The pairs are four; int8 read eight more, in which it was slower here."""
    few = {name: [[*worker, *[None] * 8] for worker in slices(SECONDS[name])] for name in (FLOAT32, FLOAT32_COPY)}
    slow = [[*worker, *(1.5 * t for t in worker * 2)] for worker in slices(SECONDS["int8"])]
    run = a_run({**few, "int8": slow}, {**few, "int8": slices(SECONDS["int8"], each=12)})
    assert (run.recording.plan["pairs"], run.recording.plan["more"]) == (4, 8)
    verdicts = by_figure(judge_run(run))
    assert verdicts["floor", "int8", "speedup"].figure.median == pytest.approx(3, rel=0.01)
    assert verdicts["against", "int8", "slower"].figure.median == pytest.approx(1.5, rel=0.01)
    assert verdicts["against", "int8", "slower"].outcome is Outcome.FAIL


def test_judging_leaves_the_run_as_it_was():
    run, baseline = a_run({FLOAT32_COPY: 4e-2}, {}), a_run()
    before = copy.deepcopy((run, baseline))
    judge_run(run, baseline)
    assert (run, baseline) == before


# What would replace a floor.


def replaced(run, proposal):
    """Return the run with the rows of a proposal put in place of its floors', as a person would."""
    floors = copy.deepcopy(dict(run.floors))
    for case, table in tomllib.loads(proposal).items():
        for metric, row in table.items():
            assert metric in floors[case]
            floors[case] |= {metric: floors[case][metric] | row if metric == "avx2" else row}
    return replace(run, floors=floors)


@given(
    slowness=st.floats(1.6, 4),
    worse=st.floats(2, 50),
    isa=st.sampled_from(["speedup", "kl", "neither"]),
)
def test_the_rows_that_are_proposed_let_the_figures_pass_and_no_others_are(slowness, worse, isa):
    floors = {
        "int8": {
            "speedup": {"at_least": 2.0, "measured": 3.0},
            "kl": {"at_most": 0.002, "measured": 0.001},
            "agreement": {"at_least": 0.5, "measured": 0.9},
        },
        "evaluate": {"overhead": {"at_most": 1.02, "measured": 1.0}},
    }
    if isa != "neither":
        row = floors["int8"][isa]
        floors["int8"][isa], floors["int8"]["avx2"] = {"at_least": 9e9, "at_most": 9e9}, {isa: row}
    told = {"far": {"int8": (3.0002, 0.001 * worse, 0.9)}}
    others = {"evaluate": {"overhead": {"median": 1.0, "lower": 1.0, "upper": 1.0}}}
    run = a_run({"int8": slowness * SECONDS["int8"]}, told=told, floors=floors, others=others)
    failed = {each.metric for each in judge_run(run) if each.outcome is Outcome.FAIL}
    assert "speedup" in failed
    proposal = proposed_limits(judge_run(run), floors, MACHINE, "2026-11-24", "pytest benchmarks")
    tables = tomllib.loads(proposal)["int8"]
    assert failed == {*limits_for({"int8": tables}, "int8", "avx2")}
    assert {*tables.get("avx2", {})} == failed & {isa}
    after = judge_run(replaced(run, proposal))
    assert worst(after) is Outcome.PASS
    assert proposed_limits(after, floors, MACHINE, "2026-11-24", "pytest benchmarks") == ""


def test_no_row_is_proposed_for_what_is_no_failed_floor():
    """What is slower than there, or lost against a baseline, is no matter of a floor."""
    run = a_run({"int8": 1.45 * SECONDS["int8"]}, {}, told={"sizes": {"int8": 3_000}})
    verdicts = judge_run(run, a_run())
    assert worst(verdicts) is Outcome.FAIL
    assert outcome_of(run, "floor", "speedup") is Outcome.PASS
    assert proposed_limits(verdicts, run.floors, MACHINE, "2026-11-24", "pytest") == ""


def test_judge_scheme_asks_as_many_questions_as_there_is_to_hold_against():
    for there, baseline, questions in (
        (None, None, {"floor"}),
        ({}, None, {"floor", "against"}),
        (None, a_run(), {"floor", "baseline"}),
        ({}, a_run(), {"floor", "against", "baseline"}),
    ):
        assert {each.question for each in judge_scheme(a_run(there=there), "int8", baseline)} == questions


def test_a_loss_that_is_no_cross_entropy_may_grow_by_a_share_of_itself():
    """Its unit may be anything; and there is no divergence to judge."""
    for scale in (1e-6, 1e6):
        for share, outcome in ((0.0009, Outcome.PASS), (0.0011, Outcome.FAIL)):
            loss = 3 * scale
            far = dict.fromkeys((FLOAT32, "int8"), (loss, None, None))
            moved = far | {"int8": (loss * (1 + share), None, None)}
            run = a_run(there={}, told={"far": moved}, told_there={"far": far})
            for told in run.recording.environments.values():
                for fidelity in told["fidelity"].values():
                    fidelity["losses"] = [sum(fidelity["losses"]) / len(fidelity["losses"])] * len(fidelity["losses"])
            found = {
                each.metric: each.outcome for each in judge.judge_scheme(run, "int8") if each.question == "against"
            }
            assert found == {"slower": Outcome.PASS, "bytes": Outcome.PASS, "loss moved": outcome}
