"""Laws of summaries: rows are in order of torch versions, changes are named, and only like is compared with like."""

import json
import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq.gate.recording import FLOAT32_COPY
from lstmq.gate.run_file import RunError
from lstmq.gate.statistics import ConfidenceInterval
from lstmq.gate.verdicts import Outcome
from lstmq.quantization.schemes import FLOAT32
from lstmq.report.summaries import (
    change_points,
    changed_figures,
    describe_changes,
    find_run_files,
    group_summaries,
    read_summaries,
    summarize_run,
    version_key,
)
from runs import FIDELITY, SECONDS, SIZES, make_environment, make_fidelity, make_run, make_size, save_run
from strategies import seeds

BF16 = {"seconds": {"bf16": 1e-2}, "sizes": {"bf16": 2_000}, "fidelity": {"bf16": FIDELITY["int8"]}}
HIGHER_LOSS = {"int8": make_fidelity(FIDELITY["int8"].loss + 8e-5, 0.001, 0.9)}
VERSIONS = ["my own", "2.2.2", "2.4.1+cu121", "2.10.0", "2.14.0.dev20261101", "2.14.0", "2.14.0+cpu", "2.15.0"]

# One run.


def test_summary_has_the_figures_of_the_run(summarize):
    run, summary = make_run(), summarize()
    assert (summary.scheme, summary.torch, summary.machine) == ("int8", "2.13.0", "a processor (avx2)")
    assert (summary.date, summary.conditions) == (run.date, run.conditions)
    assert summary.outcome is Outcome.PASS
    assert summary.is_valid
    assert summary.speedup == run.speedup("int8")
    assert (summary.us, summary.us_float32) == (run.us_per_token("int8"), run.us_per_token(FLOAT32))
    assert (summary.size, summary.size_ratio) == (SIZES["int8"], 2)
    assert dict(summary.parts) == make_size(SIZES["int8"]).parts
    assert (summary.loss, summary.loss_float32) == (FIDELITY["int8"].loss, FIDELITY[FLOAT32].loss)
    assert summary.kl == FIDELITY["int8"].kl
    assert summary.least_speedup == 2.0


def test_summary_of_a_model_without_divergence_has_none(summarize):
    """A loss that is not a cross-entropy comes without it."""
    assert math.isnan(summarize(fidelity={"int8": replace(FIDELITY["int8"], kl=None)}).kl)


def test_scheme_that_torch_lacks_is_not_measured_and_says_why(summarize):
    absent = summarize(torch="2.16.0", absent={"int8": "no dynamic quantization"})
    assert absent.outcome is Outcome.NOT_MEASURED
    assert not absent.is_measured
    assert not absent.is_valid
    [[table]] = group_summaries([summarize(), absent])
    assert [*describe_changes(table)] == ["int8 was not measured with torch 2.16.0: no dynamic quantization"]
    assert changed_figures(*table) == set()


def test_scheme_whose_benchmark_did_not_finish_is_not_measured(summarize):
    assert summarize(run={"cases": []}).outcome is Outcome.NOT_MEASURED


def test_slow_scheme_fails(summarize):
    assert summarize(seconds={"int8": 2 * SECONDS["int8"]}).outcome is Outcome.FAIL


def test_run_has_one_summary_for_each_scheme():
    run = make_run(make_environment(**BF16), schemes=("int8", "bf16"))
    assert [summary.scheme for summary in summarize_run(run)] == ["int8", "bf16"]


# Tables of comparable runs.


@given(st.permutations(VERSIONS))
def test_rows_are_in_the_order_of_torch_versions_whatever_the_order_of_files(summarize, versions):
    first = summarize()
    [[table]] = group_summaries(replace(first, torch=torch) for torch in versions)
    assert [row.torch for row in table] == VERSIONS
    assert sorted(versions, key=version_key) == VERSIONS


@given(st.permutations(range(5)))
def test_newest_run_of_a_torch_version_is_its_row(summarize, days):
    dated = {day: replace(summarize(), date=f"2026-11-2{day}T12:00:00+00:00") for day in days}
    [[[row]]] = group_summaries(dated.values())
    assert row == replace(dated[4], runs=5)


def test_noisy_run_is_a_row_only_if_it_is_the_only_run_and_has_no_changed_speedup(summarize):
    calm = summarize()
    noisy = summarize(
        seconds={FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY], "int8": 2 * SECONDS["int8"]},
        run={"date": "2026-11-25T12:00:00+00:00"},
    )
    assert noisy.outcome is Outcome.INVALID
    assert not noisy.is_valid
    assert group_summaries([calm, noisy]) == [[[replace(calm, runs=2)]]]
    assert group_summaries([noisy]) == [[[noisy]]]
    assert "speedup" not in changed_figures(calm, noisy)


def test_runs_under_other_conditions_are_in_groups_of_their_own(summarize):
    others = [summarize(machine=changed) for changed in ({"cpu": "another"}, {"isa": "avx512_vnni"}, {"threads": 2})]
    groups = group_summaries([summarize(), summarize(torch="2.14.0"), *others])
    assert sorted(len(table) for [table] in groups) == [1, 1, 1, 2]


def test_schemes_of_the_same_conditions_are_tables_of_one_group():
    groups = group_summaries(summarize_run(make_run(make_environment(**BF16), schemes=("int8", "bf16"))))
    assert [[table[0].scheme for table in group] for group in groups] == [["int8", "bf16"]]


# Changes.


def test_changes_name_the_torch_version_that_they_came_with(summarize):
    rows = [
        summarize(torch="2.13.0"),
        summarize(torch="2.14.0", fidelity=HIGHER_LOSS),
        summarize(torch="2.15.0", fidelity=HIGHER_LOSS, sizes={"int8": SIZES["int8"] - 1_500}),
        summarize(torch="2.16.0", fidelity=HIGHER_LOSS | {FLOAT32: make_fidelity(2.9, 0.0, 1.0)}),
    ]
    [[table]] = group_summaries(rows)
    assert [*describe_changes(table)] == [
        "int8 loss moved by +8e-05 with torch 2.14.0",
        "int8 shrank by 1,500 bytes with torch 2.15.0",
        "float32 loss moved by -0.1 with torch 2.16.0",
        "int8 grew by 1,500 bytes with torch 2.16.0",
    ]
    assert [changed_figures(table[0], row) for row in table] == [set(), {"loss"}, {"loss", "size"}, {"loss"}]


def test_equal_runs_have_no_changes(summarize):
    [[table]] = group_summaries([summarize(torch="2.13.0"), summarize(torch="2.14.0")])
    assert [*describe_changes(table)] == []
    assert changed_figures(*table) == set()


def test_row_that_was_not_measured_is_skipped_when_rows_are_compared(summarize):
    absent = summarize(torch="2.14.0", absent={"int8": "no engine"})
    [[table]] = group_summaries([summarize(), absent, summarize(torch="2.15.0", fidelity=HIGHER_LOSS)])
    assert [*describe_changes(table)] == [
        "int8 was not measured with torch 2.14.0: no engine",
        "int8 loss moved by +8e-05 with torch 2.15.0",
    ]


@given(st.lists(st.floats(1, 4), min_size=6, max_size=6))
def test_speedup_changed_if_the_intervals_are_apart(summarize, ends):
    a, b, c, d = sorted(ends[:2]), sorted(ends[2:4]), ends[4], ends[5]
    summary = summarize()
    first, now = (
        replace(summary, speedup=ConfidenceInterval(median=median, lower=lower, upper=upper))
        for (lower, upper), median in ((a, c), (b, d))
    )
    assert ("speedup" in changed_figures(first, now)) == (a[1] < b[0] or b[1] < a[0])


def test_changed_speedup_comes_with_the_advice_to_measure_both_in_one_session(summarize):
    [[table]] = group_summaries([summarize(), summarize(torch="2.14.0", seconds={"int8": 1.2 * SECONDS["int8"]})])
    [sentence] = describe_changes(table)
    assert sentence.startswith("int8 speedup is 2.50 with torch 2.14.0, and was 3.00 with torch 2.13.0")
    assert "--gate-against" in sentence


# Change points.


@settings(max_examples=20)
@given(seeds, st.integers(10, 60), st.integers(10, 60), st.sampled_from([0.8, 0.9, 1.15, 1.5]))
def test_change_points_find_a_step_of_five_deviations_or_more(seed, before, after, step):
    random = Random(seed)
    series = [3 * level * random.gauss(1, 0.02) for level in [1] * before + [step] * after]
    places = change_points(series)
    assert len(places) <= 3
    assert min(abs(place - before) for place in places) <= 2


def test_change_points_are_rare_in_noise_alone():
    """The test above shows that the penalty is not so large that no step is ever found."""
    random = Random(0)
    series = [[3 * random.gauss(1, 0.02) for _ in range(100)] for _ in range(200)]
    assert sum(bool(change_points(figures)) for figures in series) <= 10


@pytest.mark.parametrize("series", [[], [3.0], [3.0] * 9, [3.0] * 50])
def test_short_and_constant_series_have_no_change_points(series):
    assert change_points(series) == []


@given(st.floats(1, 4), st.floats(1.01, 2), st.integers(5, 100), st.integers(5, 100))
@settings(max_examples=20)
def test_step_between_constant_levels_is_the_only_change_point(level, factor, before, after):
    """Rounding errors are not taken for further changes."""
    assert change_points([level] * before + [factor * level] * after) == [before]


# Files.


def test_find_run_files_searches_folders_and_returns_files_as_they_are(tmp_path):
    for name in ("b/2.json", "a/1.json", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "a" / "folder.json").mkdir()
    assert find_run_files([tmp_path]) == [tmp_path / "a/1.json", tmp_path / "b/2.json"]
    named = [tmp_path / "a/notes.txt", tmp_path / "b"]
    assert find_run_files(named) == [tmp_path / "a/notes.txt", tmp_path / "b/2.json"]


def test_find_run_files_refuses_a_folder_without_json(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected saved runs, found no \.json in it"):
        find_run_files([tmp_path / "empty"])


def test_read_summaries_skips_files_without_a_run_and_reports_every_file(tmp_path):
    files = [tmp_path / "notes.json", save_run(tmp_path / "run.json", make_run())]
    files[0].write_text(json.dumps({"benchmarks": []}))
    reported = []
    summaries = list(read_summaries(files, on_file=lambda path, is_run: reported.append((path, is_run))))
    assert summaries == list(summarize_run(make_run()))
    assert reported == [(files[0], False), (files[1], True)]


def test_read_summaries_refuses_a_named_file_without_a_run(tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(RunError, match=r"notes\.json: expected a run"):
        list(read_summaries([tmp_path / "notes.json"], named=[tmp_path / "notes.json"]))
