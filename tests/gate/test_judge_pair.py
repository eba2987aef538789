"""Laws of comparing a scheme with itself, in another environment or a saved run: worse than a tolerance fails."""

import math
from dataclasses import replace

import pytest

from lstmq.gate import judge_pair
from lstmq.gate.recording import FLOAT32_COPY, Plan
from lstmq.gate.verdicts import Outcome, worst
from lstmq.quantization.schemes import FLOAT32
from runs import MACHINE, SECONDS, SIZES, judged, make_environment, make_fidelity, make_run, make_slices

SLOWER, KEPT = ("against", "int8", "slower"), ("baseline", "int8", "kept speedup")
SHORT = {model: make_slices(seconds, workers=2) for model, seconds in SECONDS.items()}
NO_INT8 = {"int8": "no such scheme"}

# Time, against another environment.


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.98, 1.0, 1.015])
def test_int8_that_is_faster_or_hardly_slower_than_there_passes(factor):
    verdicts = judged(make_run({"int8": factor * SECONDS["int8"]}, {}))
    assert verdicts[SLOWER].outcome is Outcome.PASS
    assert worst(verdicts.values()) is Outcome.PASS


@pytest.mark.parametrize("factor", [1.03, 1.05, 1.1, 2.0])
@pytest.mark.parametrize("float32", [0.5, 1, 2])
def test_int8_that_is_slower_than_there_fails_however_fast_float32_is(factor, float32):
    here = {model: float32 * SECONDS[model] for model in (FLOAT32, FLOAT32_COPY)}
    run = make_run(here | {"int8": factor * SECONDS["int8"]}, {})
    assert judged(run)[SLOWER].outcome is Outcome.FAIL


def test_int8_that_is_slower_than_there_by_the_tolerance_is_inconclusive():
    verdict = judged(make_run({"int8": (1 + Plan.tolerance) * SECONDS["int8"]}, {}))[SLOWER]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "--gate-looks" in verdict.details


def test_scheme_that_the_other_environment_lacks_is_not_measured_there_and_says_why():
    verdicts = judged(make_run(there=make_environment("there", absent=NO_INT8)))
    assert verdicts[SLOWER].outcome is Outcome.NOT_MEASURED
    assert verdicts[SLOWER].limit == "not in the other environment: no such scheme"
    assert verdicts["limit", "int8", "speedup"].outcome is Outcome.PASS


def test_slices_that_float32_skips_count_against_the_other_environment_but_not_for_the_speedup():
    """All models read four slices. int8 reads eight more, in which it is slower here."""
    float32 = {
        model: [[*process, *[None] * 8] for process in make_slices(SECONDS[model])] for model in (FLOAT32, FLOAT32_COPY)
    }
    slow = [[*process, *(1.5 * time for time in process * 2)] for process in make_slices(SECONDS["int8"])]
    run = make_run({**float32, "int8": slow}, {**float32, "int8": make_slices(SECONDS["int8"], slices=12)})
    assert (run.recording.plan.slices, run.recording.plan.float32_slices) == (12, 4)
    verdicts = judged(run)
    assert verdicts["limit", "int8", "speedup"].figure.median == pytest.approx(3, rel=0.01)
    assert verdicts[SLOWER].figure.median == pytest.approx(1.5, rel=0.01)
    assert verdicts[SLOWER].outcome is Outcome.FAIL


# Speedup, against a baseline.


@pytest.mark.parametrize(
    ("factor", "outcome"),
    [
        (0.5, Outcome.PASS),
        (1.0, Outcome.PASS),
        (1.1, Outcome.PASS),
        (1 / (1 - judge_pair.BASELINE_TOLERANCE), Outcome.INCONCLUSIVE),
        (1.15, Outcome.FAIL),
    ],
)
def test_scheme_may_lose_a_part_of_its_speedup_in_the_baseline(factor, outcome):
    verdict = judged(make_run({"int8": factor * SECONDS["int8"]}), make_run())[KEPT]
    assert verdict.outcome is outcome
    assert ("--gate-against decides it" in verdict.details) == (outcome is Outcome.INCONCLUSIVE)


def test_run_too_short_for_an_interval_is_no_regression():
    """Two blocks have no interval: both ends are infinite, which says nothing about the code."""
    assert math.isinf(make_run(SHORT).speedup("int8").upper)
    for baseline in (make_run(), make_run(SHORT)):
        assert judged(make_run(SHORT), baseline)[KEPT].outcome is Outcome.INVALID


def test_scheme_that_the_baseline_lacks_is_not_judged_by_it():
    verdicts = judged(make_run(), make_run(make_environment(absent=NO_INT8)))
    assert verdicts[KEPT].outcome is Outcome.UNJUDGED
    assert verdicts[KEPT].limit == "the baseline has no such scheme"
    assert worst(verdicts.values()) is Outcome.PASS


# Exact figures: bytes, losses and divergence.


def with_int8(loss=3.0002, kl=0.001, size=SIZES["int8"]):
    return make_environment(sizes={"int8": size}, fidelity={"int8": make_fidelity(loss, kl, 0.9)})


@pytest.mark.parametrize("question", ["against", "baseline"])
@pytest.mark.parametrize(
    ("metric", "here", "outcome"),
    [
        ("bytes", with_int8(size=SIZES["int8"]), Outcome.PASS),
        ("bytes", with_int8(size=SIZES["int8"] - 1), Outcome.PASS),
        ("bytes", with_int8(size=SIZES["int8"] + 1), Outcome.FAIL),
        ("loss moved", with_int8(loss=3.0002 + 0.9 * judge_pair.MAX_LOSS_INCREASE), Outcome.PASS),
        ("loss moved", with_int8(loss=3.0002 + 1.1 * judge_pair.MAX_LOSS_INCREASE), Outcome.FAIL),
        ("loss moved", with_int8(loss=2.0), Outcome.PASS),
        ("kl", with_int8(kl=0.001 * 0.99 * judge_pair.MAX_KL_RATIO), Outcome.PASS),
        ("kl", with_int8(kl=0.001 * 1.01 * judge_pair.MAX_KL_RATIO), Outcome.FAIL),
        ("kl", with_int8(kl=0.0), Outcome.PASS),
    ],
)
def test_exact_figure_fails_if_it_is_worse_than_before(question, metric, here, outcome):
    verdicts = judged(make_run(here, {}) if question == "against" else make_run(here), make_run())
    verdicts = {key: verdict for key, verdict in verdicts.items() if key[0] == question}
    assert verdicts.pop((question, "int8", metric)).outcome is outcome
    assert {verdict.outcome for verdict in verdicts.values()} == {Outcome.PASS}


@pytest.mark.parametrize(
    ("extra_bytes", "outcome"),
    [(1, Outcome.PASS), (judge_pair.FILE_FORMAT_BYTES, Outcome.PASS), (judge_pair.FILE_FORMAT_BYTES + 1, Outcome.FAIL)],
)
def test_file_of_another_torch_may_be_larger_by_its_format(extra_bytes, outcome):
    here = make_environment(sizes={"int8": SIZES["int8"] + extra_bytes}, machine=replace(MACHINE, torch="2.14.0"))
    verdicts = judged(make_run(here, {}), make_run())
    assert verdicts["against", "int8", "bytes"].outcome is verdicts["baseline", "int8", "bytes"].outcome is outcome


def test_losses_of_different_windows_are_not_compared():
    baseline = make_run(make_environment(fidelity={"int8": make_fidelity(3.0002, 0.001, 0.9, windows=9)}))
    assert judged(make_run(), baseline)["baseline", "int8", "loss moved"].outcome is Outcome.NOT_MEASURED


@pytest.mark.parametrize("fidelity", [make_fidelity(math.nan, math.nan, math.nan), make_fidelity(math.nan)])
def test_figure_is_invalid_if_the_other_side_is_nan(fidelity):
    """A model in the other environment, or in a baseline that the user named, may compute NaN."""
    there, then = (make_environment(name, fidelity={"int8": fidelity}) for name in ("there", "then"))
    verdicts = judged(make_run(there=there), make_run(then))
    for question in ("against", "baseline"):
        assert verdicts[question, "int8", "loss moved"].outcome is Outcome.INVALID


@pytest.mark.parametrize("loss", [3e-6, 3e6])
@pytest.mark.parametrize(("share", "outcome"), [(0.0009, Outcome.PASS), (0.0011, Outcome.FAIL)])
def test_loss_that_is_not_a_cross_entropy_may_grow_by_a_share(loss, share, outcome):
    """It may have any unit, and there is no divergence to judge."""

    def environment(name, int8):
        fidelity = {
            model: replace(make_fidelity(0.0), losses=[loss] * 10) for model, loss in ((FLOAT32, loss), ("int8", int8))
        }
        return make_environment(name, fidelity=fidelity)

    run = make_run(environment("here", loss * (1 + share)), environment("there", loss))
    outcomes = {
        metric: verdict.outcome for (question, _, metric), verdict in judged(run).items() if question == "against"
    }
    assert outcomes == {"slower": Outcome.PASS, "bytes": Outcome.PASS, "loss moved": outcome}


# Details.


@pytest.mark.parametrize(
    ("int8", "float32", "change"),
    [
        (1.2, 1.0, "int8 got slower"),
        (0.8, 1.0, "int8 got faster"),
        (1.0, 0.8, "float32 got faster"),
        (1.0, 1.2, "float32 got slower"),
        (1.2, 0.8, "int8 got slower and float32 got faster"),
        (1.01, 0.99, "no change"),
    ],
)
def test_details_say_which_model_changed_and_all_times_in_microseconds_per_token(int8, float32, change):
    before = {model: make_slices(seconds, noise=0) for model, seconds in SECONDS.items()}
    factors = {"int8": int8, FLOAT32: float32, FLOAT32_COPY: float32}
    here = {model: make_slices(factors[model] * seconds, noise=0) for model, seconds in SECONDS.items()}
    verdicts = judged(make_run(here, before), make_run(before))
    for key, other in ((SLOWER, "there"), (KEPT, "then")):
        int8_times = f"int8 {100 * int8:.1f} us/token, {other} 100.0"
        float32_times = f"float32 {300 * float32:.1f} us/token, {other} 300.0"
        assert verdicts[key].details.startswith(f"{int8_times}; {float32_times}: {change}")
