"""Laws of runs side by side: rows in torch's order, what changed is said, what may not be compared is apart."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lstmq.report.history import (
    change_points,
    changed_figures,
    describe_changes,
    find_run_files,
    group_summaries,
    summarize_run,
    version,
)

from lstmq.gate.statistics import ConfidenceInterval
from lstmq.gate.verdicts import Outcome
from lstmq.gate.worker import FLOAT32_COPY
from strategies import FAR, SECONDS, SIZES, a_run, seeds

LOSS, KL, AGREEMENT = FAR["int8"]


def stood(torch="2.13.0", date="2026-11-24T12:00:00+00:00", machine=None, here=None, **told):
    """Return how int8 stood in a run of that torch."""
    [one] = summarize_run(a_run(here, told={"machine": {"torch": torch} | (machine or {}), **told}, date=date))
    return one


def test_a_standing_is_what_the_run_says():
    run = a_run()
    one = stood()
    assert (one.scheme, one.torch, one.where) == ("int8", "2.13.0", "a processor (avx2)")
    assert one.outcome is Outcome.PASS
    assert one.speedup == run.speedup("int8")
    assert one.size == SIZES["int8"]
    assert one.size_ratio == 2
    assert one.loss == pytest.approx(LOSS)
    assert one.kl == KL
    assert one.floor == 2.0


def test_a_scheme_that_torch_cannot_do_stands_as_not_measured_and_says_why():
    run = a_run(told={"absent": {"int8": "no dynamic quantization"}, "machine": {"torch": "2.16.0"}}, cases=[])
    del run.recording.seconds["here"]["int8"]
    [one] = summarize_run(run)
    assert one.outcome is Outcome.NOT_MEASURED
    [[table]] = group_summaries([stood(), one])
    assert [*describe_changes(table)] == ["int8 was not measured at torch 2.16.0: no dynamic quantization"]
    assert changed_figures(*table) == set()


def test_a_regression_stands_as_one():
    assert stood(here={"int8": 2 * SECONDS["int8"]}).outcome is Outcome.FAIL


ORDERED = ["my own", "2.2.2", "2.4.1+cu121", "2.10.0", "2.14.0.dev20261101", "2.14.0", "2.14.0+cpu", "2.15.0"]
OF_TORCH = {each: stood(torch=each) for each in ORDERED}


@given(st.permutations(ORDERED))
def test_rows_are_in_torchs_order_whatever_the_files(versions):
    [[table]] = group_summaries(OF_TORCH[each] for each in versions)
    assert [each.torch for each in table] == ORDERED
    assert sorted(versions, key=version) == ORDERED


DAYS = [stood(date=f"2026-11-2{day}T12:00:00+00:00") for day in range(5)]


@given(st.permutations(DAYS))
def test_of_several_runs_of_a_torch_the_newest_is_its_row(runs):
    [[[row]]] = group_summaries(runs)
    assert row == replace(DAYS[4], runs=5)


def test_a_run_that_was_too_noisy_is_no_row_if_there_is_another_and_no_speedup_of_it_moved():
    noisy = stood(
        here={FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY], "int8": 2 * SECONDS["int8"]}, date="2026-11-25T12:00:00+00:00"
    )
    assert not noisy.valid
    [[[row]]] = group_summaries([DAYS[0], noisy])
    assert row == replace(DAYS[0], runs=2)
    [[[alone]]] = group_summaries([noisy])
    assert alone == noisy
    assert "speedup" not in changed_figures(DAYS[0], noisy)


def test_what_may_not_be_compared_is_in_groups_of_its_own():
    others = [stood(machine=change) for change in ({"cpu": "another"}, {"isa": "avx512_vnni"}, {"threads": 2})]
    groups = group_summaries([stood(), stood(torch="2.14.0"), *others])
    assert sorted(len(table) for [table] in groups) == [1, 1, 1, 2]
    two = group_summaries(summarize_run(a_run({"bf16": 1e-2}, schemes=("int8", "bf16"), told=BOTH)))
    assert [[table[0].scheme for table in group] for group in two] == [["int8", "bf16"]]


BOTH = {"sizes": {"bf16": 2_000}, "far": {"bf16": FAR["int8"]}}


def test_what_changed_is_said_with_the_version_that_it_changed_at():
    rows = [
        stood(torch="2.13.0"),
        stood(torch="2.14.0", far={"int8": (LOSS + 8e-5, KL, AGREEMENT)}),
        stood(torch="2.15.0", far={"int8": (LOSS + 8e-5, KL, AGREEMENT)}, sizes={"int8": SIZES["int8"] - 1_500}),
    ]
    [[table]] = group_summaries(rows)
    assert [*describe_changes(table)] == [
        "int8 loss moved by +8e-05 at torch 2.14.0",
        "int8 shrank by 1,500 bytes at torch 2.15.0",
    ]
    assert [changed_figures(table[0], row) for row in table] == [set(), {"loss"}, {"loss", "size"}]


def test_nothing_changed_between_equal_runs():
    [[table]] = group_summaries([stood(torch="2.13.0"), stood(torch="2.14.0")])
    assert [*describe_changes(table)] == []
    assert changed_figures(*table) == set()


@given(st.lists(st.floats(1, 4), min_size=6, max_size=6))
def test_a_speedup_moved_if_the_intervals_have_nothing_in_common(ends):
    a, b, c, d = sorted(ends[:2]), sorted(ends[2:4]), ends[4], ends[5]
    first, now = (
        replace(DAYS[0], speedup=ConfidenceInterval(median=at, lower=low, upper=high))
        for (low, high), at in ((a, c), (b, d))
    )
    assert ("speedup" in changed_figures(first, now)) == (a[1] < b[0] or b[1] < a[0])


def test_a_speedup_that_moved_is_said_to_be_of_another_session():
    [[table]] = group_summaries([stood(), stood(torch="2.14.0", here={"int8": 1.2 * SECONDS["int8"]})])
    [sentence] = describe_changes(table)
    assert sentence.startswith("int8 speedup 2.50 at torch 2.14.0, 3.00 at torch 2.13.0")
    assert "--gate-against" in sentence


# Over time.


@given(seeds, st.integers(10, 60), st.integers(10, 60), st.sampled_from([0.8, 0.9, 1.15, 1.5]))
def test_a_step_of_five_deviations_is_found_where_it_is(seed, before, after, step):
    random = Random(seed)
    series = [3 * by * random.gauss(1, 0.02) for by in [1] * before + [step] * after]
    found = change_points(series)
    assert len(found) <= 3
    assert min(abs(place - before) for place in found) <= 2


def test_noise_alone_has_hardly_any_change_points():
    """In 200 series of 100 runs; the penalty is not so large that none is ever found."""
    random = Random(0)
    series = [[3 * random.gauss(1, 0.02) for _ in range(100)] for _ in range(200)]
    assert sum(bool(change_points(each)) for each in series) <= 10


@pytest.mark.parametrize("series", [[], [3.0], [3.0] * 9, [3.0] * 50])
def test_few_runs_and_equal_ones_have_none(series):
    assert change_points(series) == []


# Files.


def test_folders_are_searched_for_runs_and_files_are_themselves(tmp_path):
    for name in ("b/2.json", "a/1.json", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert find_run_files([tmp_path]) == [tmp_path / "a/1.json", tmp_path / "b/2.json"]
    assert find_run_files([tmp_path / "a/notes.txt", tmp_path / "b"]) == [
        tmp_path / "a/notes.txt",
        tmp_path / "b/2.json",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected saved runs, found no \.json in it"):
        find_run_files([tmp_path / "empty"])
