"""Laws of the study of the gate: its tables follow from its sessions, and intervals have their confidence."""

import math
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

CHECKOUT = Path(__file__).parents[2]
STUDY = CHECKOUT / "benchmarks" / "study"
binomial_interval = runpy.run_path(str(STUDY / "intervals.py"))["binomial_interval"]


@pytest.mark.parametrize(
    ("count", "trials", "lower", "upper"),
    [
        (0, 60, 0.0, 0.05963),  # 1 - 0.025 ** (1 / 60)
        (3, 60, 0.01043, 0.13924),
        (60, 60, 0.94037, 1.0),
        (1, 2, 0.01258, 0.98742),
        (5, 10, 0.18709, 0.81291),
        (0, 0, 0.0, 1.0),
    ],
)
def test_binomial_interval_equals_published_tables(count, trials, lower, upper):
    assert binomial_interval(count, trials) == pytest.approx((lower, upper), abs=2e-5)


@given(st.integers(1, 100), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_binomial_interval_leaves_half_of_the_error_at_each_end(trials, data, confidence):
    count = data.draw(st.integers(0, trials))
    lower, upper = binomial_interval(count, trials, confidence)
    ways = [math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1) for i in range(trials + 1)]

    def probability(counts, p):
        return sum(math.exp(ways[i] + i * math.log(p) + (trials - i) * math.log1p(-p)) for i in counts)

    assert 0 <= lower <= count / trials <= upper <= 1
    assert lower == 0 or probability(range(count, trials + 1), lower) == pytest.approx((1 - confidence) / 2, rel=1e-6)
    assert upper == 1 or probability(range(count + 1), upper) == pytest.approx((1 - confidence) / 2, rel=1e-6)
    assert (lower == 0, upper == 1) == (count == 0, count == trials)


@pytest.mark.parametrize("trials", [1, 59, 300])
def test_bounds_are_one_sided(trials, monkeypatch):
    """An event of probability p is missing from n trials with probability (1 - p) ** n: 5 % at the bound."""
    monkeypatch.syspath_prepend(STUDY)
    results = runpy.run_path(str(STUDY / "results.py"))
    bound = 100 * (1 - 0.05 ** (1 / trials))
    assert results["at_most"](0, trials) == f"at most {bound:.1f} %"
    assert results["at_least"](trials, trials) == f"at least {100 - bound:.1f} %"


def test_a_session_is_missing_until_its_condition_has_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    run = runpy.run_path(str(STUDY / "run.py"))
    planned = sum(kind.sessions for kind in run["KINDS"].values())
    file = tmp_path / "sessions.jsonl.gz"
    for others in (0.0, 0.9, 1.0):
        run["append_session"]({"kind": "default", "others": others}, file)
    sessions = run["read_sessions"](file)
    assert [session["others"] for session in sessions] == [0.0, 0.9, 1.0]
    assert len(run["missing_sessions"](sessions, "idle")) == planned - 1
    assert len(run["missing_sessions"](sessions, "loaded")) == planned - 2


def test_the_study_is_complete_and_passed_all_unchanged_code(monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    run = runpy.run_path(str(STUDY / "run.py"))
    sessions = run["read_sessions"]()
    assert [run["missing_sessions"](sessions, condition) for condition in run["CONDITIONS"]] == [[], []]
    assert {one["exit_code"] for one in sessions if not run["KINDS"][one["kind"]].slower} == {0}


def test_summary_counts_sessions_with_the_same_options_together(monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    results = runpy.run_path(str(STUDY / "results.py"))
    against = [("against", 0, 60.0, 0.0), ("against", 10, 80.0, 0.0), ("against, apart", 0, 99.6, 0.9)]
    slower = [("int8, 5 % slower", 1, 40.0, 0.05), ("int8, 5 % slower", 10, 50.0, 0.0)]
    names = ("kind", "exit_code", "took", "others")
    rows = results["summary_rows"]([dict(zip(names, one, strict=True)) for one in against + slower])
    against_code = "| unchanged | 2 PASS, 1 INCONCLUSIVE | at most 86.5 % do not pass |"  # 3 p**2 - 2 p**3 = 0.95
    slower_code = "| 5 % slower | 1 FAIL, 1 INCONCLUSIVE | at least 2.5 % fail |"  # 1 - (1 - p)**2 = 0.05
    assert list(rows)[2:] == [
        f"| `--gate-against PYTHON` {against_code} 70 s, 100 s | 100 s |",
        f"| `--gate-against PYTHON --gate-scheme int8` {slower_code} 45 s | 50 s |",
        f"| any of these {against_code} | |",
    ]


def test_docs_show_the_summary_of_the_study(monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    results = runpy.run_path(str(STUDY / "results.py"))
    sessions = results["read_sessions"]()
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    table = "\n".join(results["summary_rows"](sessions)) + "\n\n"
    assert table in readme
    assert table in (CHECKOUT / "docs" / "gate.md").read_text(encoding="utf-8")
    assert f"{len(results['unchanged'](sessions))} sessions with unchanged code" in readme
    assert f"counts their exit codes, in {len(sessions)} sessions." in results["README"].read_text(encoding="utf-8")


def test_results_reproduces_the_tables_of_the_readme(monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    results = runpy.run_path(str(STUDY / "results.py"))
    readme = results["README"].read_text(encoding="utf-8")
    assert readme.endswith(results["tables"](results["read_sessions"]()))
