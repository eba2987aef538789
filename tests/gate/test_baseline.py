"""Laws of selecting a baseline: the newest comparable run that passed and has every scheme; or a reason why not."""

from dataclasses import replace

import pytest

from lstmq.gate.baseline import select_baseline, why_not_comparable
from lstmq.gate.recording import FLOAT32_COPY
from runs import MACHINE, SECONDS, make_environment, make_run, make_slices

NOW = make_run().conditions
SLOW_COPY = {FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY]}
PASSED = make_run()
OTHER_CPU = make_run(make_environment(machine=replace(MACHINE, cpu="another")))
NOISY = make_run(SLOW_COPY)
NOISY_THERE = make_run(there=SLOW_COPY)
SHORT = make_run({model: make_slices(seconds, workers=2) for model, seconds in SECONDS.items()})
FAILED = make_run(outcome="FAIL")
UNJUDGED = make_run(outcome="")
WITHOUT_INT8 = make_run(make_environment(absent={"int8": "no such scheme"}))


@pytest.mark.parametrize(
    ("run", "reasons"),
    [
        (PASSED, []),
        (OTHER_CPU, ["cpu a processor now, another then"]),
        (NOISY, ["it was too noisy"]),
        (NOISY_THERE, ["it was too noisy"]),
        (SHORT, ["it was too noisy"]),
    ],
)
def test_run_is_not_comparable_if_it_was_noisy_or_under_other_conditions(run, reasons):
    assert why_not_comparable(NOW, run) == reasons


@pytest.mark.parametrize(
    ("runs", "place", "note"),
    [
        ([PASSED, PASSED], 0, "the run of 0"),
        ([FAILED, PASSED, PASSED], 1, "the run of 1"),  # what failed yesterday fails again today
        ([OTHER_CPU, NOISY, FAILED, PASSED], 3, "the run of 3"),
        ([WITHOUT_INT8, PASSED], 1, "the run of 1"),  # a run of one scheme does not hide the others
        ([WITHOUT_INT8, OTHER_CPU], 0, "the run of 0, although it has no int8"),
    ],
)
def test_newest_comparable_run_that_passed_is_the_baseline(runs, place, note):
    runs = [replace(run, date=str(number)) for number, run in enumerate(runs)]
    assert select_baseline(iter(runs), NOW, ["int8"]) == (runs[place], note)


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([FAILED], "the run of 0 cannot be compared: it did not pass: FAIL"),
        ([UNJUDGED], "the run of 0 cannot be compared: it did not pass: it was not judged"),
        ([NOISY, OTHER_CPU], "the run of 0 cannot be compared: it was too noisy"),
        ([], "no saved run was found"),
    ],
)
def test_without_a_comparable_run_the_limits_alone_judge_unless_a_baseline_is_required(runs, reason):
    runs = [replace(run, date=str(number)) for number, run in enumerate(runs)]
    assert select_baseline(iter(runs), NOW, ["int8"]) == (None, f"{reason}; judged by limits only")
    with pytest.raises(ValueError, match=f"^a baseline is required: {reason}$"):
        select_baseline(runs, NOW, ["int8"], required=True)


def test_named_run_that_failed_is_a_baseline_unless_a_better_one_follows():
    failed, passed = replace(FAILED, date="1"), replace(PASSED, date="0")
    assert select_baseline([failed], NOW, named=True) == (failed, "the run of 1, although it did not pass: FAIL")
    assert select_baseline([failed, passed], NOW, named=True) == (passed, "the run of 0")


def test_select_baseline_reads_no_more_runs_than_it_needs():
    runs = iter([PASSED, NOISY])
    select_baseline(runs, NOW)
    assert next(runs) is NOISY


def test_required_baseline_has_every_scheme():
    assert select_baseline([PASSED], NOW, ["int8"], required=True)[0] is PASSED
    with pytest.raises(ValueError, match="it has no bf16"):
        select_baseline([PASSED], NOW, ["int8", "bf16"], required=True)
