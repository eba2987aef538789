"""Laws of judging a run: a figure is judged by its limit, what was not measured does not pass, noise is not judged."""

import copy
import itertools
import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate import judge
from lstmq.gate.judge import (
    is_noisy,
    judge_limits,
    judge_run,
    judge_scheme,
    judge_session,
    scheme_outcome,
    undecided_figures,
)
from lstmq.gate.limits import CaseLimits, Limit
from lstmq.gate.recording import FLOAT32_COPY
from lstmq.gate.statistics import Sample, exact
from lstmq.gate.verdicts import Outcome, decide, worst
from lstmq.quantization.schemes import FLOAT32
from runs import (
    FIDELITY,
    LIMITS,
    MACHINE,
    SECONDS,
    SIZES,
    change_seconds,
    intervals,
    judged,
    make_environment,
    make_fidelity,
    make_run,
    make_slices,
    noisy_runs,
)

ROWS = {"speedup": Limit(at_least=2.0), "kl": Limit(at_most=0.003), "agreement": Limit(at_least=0.5, at_most=1)}
BF16 = make_environment(seconds={"bf16": 1e-2}, sizes={"bf16": 2_000}, fidelity={"bf16": FIDELITY["int8"]})
GOODNESS = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}


def int8_limits(**limits):
    """Return limits for int8 only."""
    return {"int8": CaseLimits(default=limits)}


# Limits.


@given(st.sampled_from(["speedup", "kl", "agreement"]), intervals)
def test_judge_limits_decides_a_figure_by_its_limit(metric, figure):
    [verdict] = judge_limits("int8", {metric: figure}, int8_limits(**{metric: ROWS[metric]}), "avx2")
    assert verdict.outcome is decide(figure, ROWS[metric].at_least, ROWS[metric].at_most)
    assert (verdict.question, verdict.case, verdict.metric, verdict.figure) == ("limit", "int8", metric, figure)
    assert verdict.limit == str(ROWS[metric])


@pytest.mark.parametrize(
    ("case", "metric", "exempt", "limit"),
    [
        ("train", "loss", (), "no limit"),
        ("evaluate", "speedup", (), "no limit"),
        ("int8", "speedup", {"speedup"}, "its limit is for another shape or text"),
    ],
)
def test_judge_limits_shows_but_does_not_judge_a_figure_without_limit_or_that_is_exempt(case, metric, exempt, limit):
    [verdict] = judge_limits(case, {metric: exact(1.0)}, int8_limits(speedup=Limit(at_least=99)), "avx2", exempt)
    assert (verdict.outcome, verdict.figure_text, verdict.limit) == (Outcome.UNJUDGED, "1", limit)
    assert worst([verdict, replace(verdict, outcome=Outcome.PASS)]) is Outcome.PASS


def test_limit_of_the_instruction_set_replaces_the_default_one():
    by_isa = {"avx512_vnni": {"speedup": Limit(at_least=2.2)}}
    limits = {"int8": CaseLimits(default={"speedup": Limit(at_least=1.4)}, by_isa=by_isa)}
    for isa, outcome in (("avx2", Outcome.PASS), ("avx512_vnni", Outcome.FAIL)):
        here = make_environment(seconds={"int8": SECONDS[FLOAT32] / 2}, machine=replace(MACHINE, isa=isa))
        assert judged(make_run(here, limits=limits))["limit", "int8", "speedup"].outcome is outcome


def test_failed_limit_says_both_times_and_what_was_measured_before_and_where():
    limit = Limit(at_least=99, measured=100, date="2026-11-22", machine="an idle machine", command="pytest")
    verdict = judged(make_run(limits=int8_limits(speedup=limit)))["limit", "int8", "speedup"]
    assert verdict.outcome is Outcome.FAIL
    times = "int8 100.0 us/token; float32 300.0"
    assert verdict.details == f"{times}; measured 100 on 2026-11-22, an idle machine"


def test_inconclusive_limit_says_how_to_decide_it():
    verdict = judged(make_run(limits=int8_limits(speedup=Limit(at_least=3.0))))["limit", "int8", "speedup"]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.details.endswith("more blocks, as in --gate-looks 24,48,96,192, may decide it")


@pytest.mark.parametrize("metric", ["speedup", "size_ratio", "loss_difference", "kl", "agreement"])
@pytest.mark.parametrize("end", ["at_least", "at_most"])
def test_every_figure_of_a_scheme_can_have_a_limit(metric, end):
    median = judged(make_run())["limit", "int8", metric].figure.median
    margin = 0.01 * abs(median) * (-1 if end == "at_least" else 1)
    for limit, outcome in ((median + margin, Outcome.PASS), (median - margin, Outcome.FAIL)):
        run = make_run(limits=int8_limits(**{metric: Limit(**{end: limit})}))
        assert judged(run)["limit", "int8", metric].outcome is outcome


@pytest.mark.parametrize("metric", ["kl", "agreement", "loss_difference"])
def test_model_that_computes_nan_makes_the_session_invalid(metric):
    here = make_environment(fidelity={"int8": make_fidelity(math.nan, math.nan, math.nan)})
    verdicts = judged(make_run(here, {}, limits=int8_limits(**{metric: Limit(at_least=-1e9, at_most=1e9)})), make_run())
    for key in (("limit", "int8", metric), *itertools.product(("against", "baseline"), ["int8"], ("loss moved", "kl"))):
        assert verdicts[key].outcome is Outcome.INVALID
    assert verdicts["session", "int8", "loss"].limit == "a finite number; int8's own loss is NaN"


@pytest.mark.parametrize(("loss", "text"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_float32_whose_loss_is_not_finite_makes_the_session_invalid_without_any_limit(loss, text):
    side = make_environment("there", fidelity={FLOAT32: make_fidelity(loss, 0.0, 1.0)})
    run = make_run({}, side, limits=int8_limits(size_ratio=Limit(at_least=1)))
    verdict = judged(run)["session", FLOAT32, "loss, there"]
    assert (verdict.outcome, verdict.limit) == (
        Outcome.INVALID,
        f"a finite number; float32's own loss is {text}, there",
    )
    assert worst(judge_run(run)) is Outcome.INVALID
    assert undecided_figures(run) == {}


# Looks.


def test_undecided_figures_name_the_models_that_must_be_read_on():
    limits = int8_limits(speedup=Limit(at_least=3.0))
    run = make_run({"int8": SECONDS["int8"]}, {"int8": SECONDS["int8"] / 1.02}, limits=limits)
    assert undecided_figures(run) == {"int8 speedup": (FLOAT32, "int8"), "int8 slower": ("int8",)}
    assert undecided_figures(make_run({}, {})) == {}


def test_noisy_copy_is_undecided():
    run = make_run({FLOAT32_COPY: 2 * SECONDS[FLOAT32]})
    assert undecided_figures(run) == {"float32 over its copy": (FLOAT32, FLOAT32_COPY)}


@given(noisy_runs(), st.none() | noisy_runs())
def test_no_look_is_taken_again_once_all_figures_are_settled(run, baseline):
    undecided = undecided_figures(run, baseline)
    outcomes = {verdict.outcome for verdict in judge_run(run, baseline)}
    assert (not undecided) == outcomes.isdisjoint({Outcome.INCONCLUSIVE, Outcome.INVALID})


# What was not measured.


def test_limit_without_a_figure_is_not_measured():
    """A metric may be misspelt, or lstmq may no longer report it."""
    run = make_run(limits=int8_limits(speedup=Limit(at_least=1), sped=Limit(at_least=1)))
    assert judged(run)["limit", "int8", "speedup"].outcome is Outcome.PASS
    assert judged(run)["limit", "int8", "sped"].outcome is Outcome.NOT_MEASURED
    assert worst(judge_run(run)) is Outcome.NOT_MEASURED


def test_scheme_whose_benchmark_did_not_finish_is_not_measured():
    run = make_run(BF16, schemes=("int8", "bf16"), cases=["int8"])
    assert judged(run)["limit", "bf16", "all"].outcome is Outcome.NOT_MEASURED
    assert judged(run)["limit", "int8", "speedup"].outcome is Outcome.PASS
    assert worst(judge_run(run)) is Outcome.NOT_MEASURED


@pytest.mark.parametrize(
    "limits",
    [{}, {"int8-embedding": CaseLimits(default=ROWS)}, {"int8": CaseLimits(default={}, by_isa={"avx512_vnni": ROWS})}],
)
def test_scheme_without_a_limit_is_not_measured(limits):
    verdict = judged(make_run(limits=limits))["limit", "int8", "all"]
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert "no row" in verdict.limit


@pytest.mark.parametrize("cases", [[], ["int8"]])
def test_scheme_that_this_environment_lacks_is_not_measured_and_says_why(cases):
    run = make_run(make_environment(absent={"int8": "no dynamic quantization"}), cases=cases)
    verdict = judged(run)["limit", "int8", "all"]
    assert (verdict.outcome, verdict.limit) == (Outcome.NOT_MEASURED, "no dynamic quantization")


def test_other_case_with_limits_is_not_measured_if_its_benchmark_did_not_finish():
    limits = LIMITS | {"train": CaseLimits(default={"overhead": Limit(at_most=1.05)})}
    assert judged(make_run(limits=limits))["limit", "train", "all"].outcome is Outcome.NOT_MEASURED
    run = make_run(limits=limits, others={"train": {"overhead": exact(1.0)}})
    assert worst(judge_run(run)) is Outcome.PASS


def test_benchmark_that_failed_without_a_figure_fails_the_run():
    run = make_run(failures=["test_corpus.py::test_corpus"])
    assert judged(run)["case", "test_corpus.py::test_corpus", "all"].outcome is Outcome.FAIL
    assert worst(judge_run(run)) is Outcome.FAIL


# Noisy sessions.


@pytest.mark.parametrize(
    ("factor", "outcome"),
    [
        (1.0, Outcome.PASS),
        (1 + 0.9 * judge.COPY_TOLERANCE, Outcome.PASS),
        (1 - 0.9 * judge.COPY_TOLERANCE, Outcome.PASS),
        (1.05, Outcome.INVALID),
    ],
)
def test_session_is_invalid_if_float32_and_its_copy_are_not_equally_fast(factor, outcome):
    for change in (factor, 1 / factor):
        [verdict] = judge_session(make_run({FLOAT32_COPY: change * SECONDS[FLOAT32_COPY]}))
        assert verdict.outcome is outcome
        assert verdict.figure.median == pytest.approx(1 / change, rel=0.002)


@pytest.mark.parametrize(("name", "metric"), [("here", "over its copy"), ("there", "over its copy, there")])
def test_session_is_invalid_if_the_copy_differs_in_either_environment(name, metric):
    slow = {FLOAT32_COPY: 1.1 * SECONDS[FLOAT32_COPY]}
    run = make_run(**{"here": {}, "there": {}, name: slow})
    assert is_noisy(run)
    assert not is_noisy(make_run(there={}))
    assert [verdict.metric for verdict in judge_session(run) if verdict.outcome is Outcome.INVALID] == [metric]
    verdict = judged(run)["against", "int8", "slower"]
    assert verdict.outcome is Outcome.INVALID
    assert verdict.details.startswith("too noisy to judge; int8 100.")


@pytest.mark.parametrize(("spread", "noisy"), [(judge.COPY_MAX_WIDTH / 2, False), (2 * judge.COPY_MAX_WIDTH, True)])
def test_session_is_noisy_if_the_copy_differs_from_process_to_process(spread, noisy):
    run = change_seconds(
        make_run(), lambda worker, _, seconds: seconds * (1 + spread * (worker / 11 - 0.5)), model=FLOAT32_COPY
    )
    assert is_noisy(run) == noisy


def test_session_is_noisy_if_it_is_too_short_for_an_interval():
    assert is_noisy(make_run({model: make_slices(seconds, workers=1) for model, seconds in SECONDS.items()}))


def test_noisy_session_is_judged_by_its_exact_figures_only():
    """Bytes, losses and divergence are the same on any machine."""
    here = make_environment(
        seconds={FLOAT32_COPY: 1.5 * SECONDS[FLOAT32_COPY], "int8": 2e-2},
        sizes={"int8": SIZES["int8"] + 1},
        fidelity={"int8": make_fidelity(3.1, 0.1, 0.9)},
    )
    limits = int8_limits(speedup=Limit(at_least=99), kl=Limit(at_most=0.01), size_ratio=Limit(at_least=1))
    outcomes = {key: verdict.outcome for key, verdict in judged(make_run(here, {}, limits=limits), make_run()).items()}
    for question, metric in (("limit", "speedup"), ("against", "slower"), ("baseline", "kept speedup")):
        assert outcomes[question, "int8", metric] is Outcome.INVALID
    for question, metric in itertools.product(("against", "baseline"), ("bytes", "loss moved", "kl")):
        assert outcomes[question, "int8", metric] is Outcome.FAIL
    assert outcomes["limit", "int8", "kl"] is Outcome.FAIL
    assert outcomes["limit", "int8", "size_ratio"] is Outcome.PASS
    assert outcomes["session", FLOAT32, "over its copy"] is Outcome.INVALID


def test_noisy_session_without_failure_is_invalid():
    assert worst(judge_run(make_run({FLOAT32_COPY: 1.5 * SECONDS[FLOAT32_COPY]}))) is Outcome.INVALID


# Whole runs.


@pytest.mark.parametrize(
    ("there", "baseline", "questions"),
    [
        (None, None, {"limit"}),
        ({}, None, {"limit", "against"}),
        (None, make_run(), {"limit", "baseline"}),
        ({}, make_run(), {"limit", "against", "baseline"}),
    ],
)
def test_judge_scheme_compares_with_the_other_environment_and_the_baseline_if_there_are_any(there, baseline, questions):
    verdicts = judge_scheme(make_run(there=there), "int8", baseline)
    assert {verdict.question for verdict in verdicts} == questions


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (make_run(), Outcome.PASS),
        (make_run({"int8": 2e-2}), Outcome.FAIL),
        (make_run({FLOAT32_COPY: 6e-2}), Outcome.INVALID),
        (make_run(cases=[]), Outcome.NOT_MEASURED),
        (make_run(failures=["test_corpus"]), Outcome.PASS),  # which is not about the scheme
    ],
)
def test_scheme_outcome_is_the_worst_for_the_scheme_and_the_machine(run, outcome):
    assert scheme_outcome(run, "int8") is outcome


def test_made_up_run_passes():
    """Otherwise the other tests would say little about real runs."""
    assert worst(judge_run(make_run(there={}), make_run())) is Outcome.PASS


@given(noisy_runs(with_there=True, calm=True), noisy_runs(calm=True), st.randoms())
def test_slower_int8_never_gets_a_better_verdict(run, baseline, random):
    """Each slice is slowed on its own, by a little or a lot."""
    factors = random.choice([[1, 1.01], [1.05], [1, 1, 1, 10], [1.5, 2]])
    slower = change_seconds(run, lambda _worker, _place, seconds: seconds * random.choice(factors))
    before, after = judged(run, baseline), judged(slower, baseline)
    for key in (("limit", "int8", "speedup"), ("against", "int8", "slower"), ("baseline", "int8", "kept speedup")):
        assert GOODNESS[after[key].outcome] <= GOODNESS[before[key].outcome]


@given(noisy_runs(), noisy_runs(), st.integers(-8, 8), st.randoms())
def test_slower_machine_and_the_order_of_slices_change_no_verdict(run, baseline, power, random):
    """The factor is a power of two, so that nothing is rounded. All models of a worker are reordered alike."""
    orders = [random.sample(range(len(process)), len(process)) for process in run.recording.slices]
    slower = copy.deepcopy(run)
    for environment in slower.recording.environments.values():
        for model, processes in environment.seconds.items():
            environment.seconds[model] = [
                [2.0**power * process[place] for place in order]
                for process, order in zip(processes, orders, strict=True)
            ]
    before, after = judged(run, baseline), judged(slower, baseline)
    assert {key: verdict.outcome for key, verdict in after.items()} == {
        key: verdict.outcome for key, verdict in before.items()
    }


@given(noisy_runs(with_there=True))
def test_verdicts_come_from_intervals_over_blocks(run):
    def ratios(first, second):
        blocks = [
            statistics.median(a / b for a, b in zip(*process, strict=True))
            for process in zip(first, second, strict=True)
        ]
        (interval,) = Sample(blocks=blocks, looks=run.recording.plan.planned_looks).intervals()
        return interval

    verdicts, here, there = judged(run), run.recording.here.seconds, run.recording.there.seconds
    for key, figure, limit in (
        (("against", "int8", "slower"), ratios(here["int8"], there["int8"]), {"at_most": 1.02}),
        (("limit", "int8", "speedup"), ratios(here[FLOAT32], here["int8"]), {"at_least": 2.0}),
    ):
        assert verdicts[key].figure == figure
        is_valid = figure.is_exact or not is_noisy(run)
        assert verdicts[key].outcome is (decide(figure, **limit) if is_valid else Outcome.INVALID)


def test_judge_run_does_not_change_the_runs():
    run, baseline = make_run({FLOAT32_COPY: 4e-2}, {}), make_run()
    before = copy.deepcopy((run, baseline))
    judge_run(run, baseline)
    assert (run, baseline) == before
