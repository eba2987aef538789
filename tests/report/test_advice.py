"""Laws of advice: every verdict has something to do, and an upgrade is advised only if nothing speaks against it."""

from dataclasses import replace

import pytest

from lstmq.gate.judge import judge_run
from lstmq.gate.recording import FLOAT32_COPY
from lstmq.gate.verdicts import Outcome, not_measured
from lstmq.report.advice import release_of, upgrade_sentence, what_to_do, worst_first
from lstmq.report.summaries import group_summaries
from runs import FIDELITY, SECONDS, make_fidelity, make_run

SLOW = {"int8": 2 * SECONDS["int8"]}
NOISY = {FLOAT32_COPY: 2 * SECONDS[FLOAT32_COPY]}
OLD, NEW = "2.13.0+cpu", "2.15.0+cpu"


def advise(*summaries):
    return upgrade_sentence(group_summaries(summaries))


# Verdicts.


def test_worst_first_keeps_the_order_of_equal_outcomes():
    outcomes = [Outcome.PASS, Outcome.UNJUDGED, Outcome.FAIL, Outcome.INVALID, Outcome.FAIL]
    verdicts = [replace(not_measured(f"case {n}", "all", ""), outcome=outcome) for n, outcome in enumerate(outcomes)]
    assert [verdict.case for verdict in worst_first(verdicts)] == ["case 2", "case 4", "case 3", "case 0", "case 1"]


@pytest.mark.parametrize(
    ("run", "baseline", "words"),
    [
        (make_run(SLOW, {}), None, "slower here than there"),
        (make_run(SLOW), None, "set new limits"),
        (make_run({"int8": 1.4 * SECONDS["int8"]}), make_run(), "--gate-against"),
        (make_run(NOISY), None, "calmer machine"),
        (make_run(cases=[]), None, "Read the reason"),
        (make_run(failures=["test_corpus"]), None, "Read the error"),
        (make_run(), None, "Nothing is left"),
    ],
)
def test_worst_verdict_of_a_run_says_what_to_do(run, baseline, words):
    verdicts = judge_run(run, baseline)
    if words.startswith("slower"):  # without the limit, which fails too
        verdicts = [verdict for verdict in verdicts if verdict.question == "against"]
    assert words in what_to_do(worst_first(verdicts)[0])


@pytest.mark.parametrize("question", ["limit", "against", "baseline", "session", "case"])
def test_every_verdict_has_something_to_do(question):
    for outcome in Outcome:
        if (question, outcome) != ("session", Outcome.FAIL):  # a session never fails, it is invalid
            verdict = replace(not_measured("int8", "kl", "", question), outcome=outcome)
            assert what_to_do(verdict).endswith(".")


# Upgrades.


def test_upgrade_is_advised_if_the_newest_torch_passes_everywhere(summarize):
    sentence = advise(summarize(OLD), summarize(NEW), summarize(OLD, {"cpu": "two"}), summarize(NEW, {"cpu": "two"}))
    assert sentence == "Upgrade to torch 2.15.0: every scheme passes its limits on 2 processors, and none got slower."


def test_builds_of_one_release_are_one_version(summarize):
    assert advise(summarize(OLD), summarize(NEW), summarize("2.15.0", {"cpu": "two"})).startswith(
        "Upgrade to torch 2.15.0:"
    )
    assert [release_of(version) for version in ("2.15.0+cu132", "2.16.0.dev1+cpu", "my own")] == [
        "2.15.0",
        "2.16.0.dev1",
        "my own",
    ]


def test_upgrade_is_not_advised_if_a_scheme_fails_on_one_processor(summarize):
    fine, slow = summarize(NEW), summarize(NEW, {"cpu": "two"}, seconds=SLOW)
    assert advise(summarize(OLD), fine, slow).startswith("Do not upgrade to torch 2.15.0: int8: FAIL on two (avx2)")


def test_failure_of_an_old_torch_does_not_matter(summarize):
    assert advise(summarize(OLD, seconds=SLOW), summarize(NEW)).startswith("Upgrade to torch 2.15.0")


def test_upgrade_waits_for_what_is_noisy_missing_or_failed_otherwise(summarize):
    before = "Do not upgrade to torch 2.15.0 yet: int8: "
    assert advise(summarize(OLD), summarize(NEW, seconds=NOISY)).startswith(f"{before}INVALID on a processor (avx2)")
    absent = summarize(NEW, absent={"int8": "no engine"})
    assert advise(summarize(OLD), absent) == f"{before}NOT MEASURED on a processor (avx2) (no engine)."
    elsewhere = summarize(OLD, {"cpu": "two"})
    assert advise(summarize(OLD), summarize(NEW), elsewhere) == f"{before}not measured with it on two (avx2)."
    failed = summarize(NEW, run={"outcome": "FAIL"})
    expected = "Do not upgrade to torch 2.15.0: another figure: FAIL on a processor (avx2)."
    assert advise(summarize(OLD), failed) == expected


def test_slower_scheme_within_its_limit_asks_for_one_session(summarize):
    slower = summarize(NEW, seconds={"int8": 1.2 * SECONDS["int8"]})
    sentence = advise(summarize(OLD), slower)
    assert sentence.startswith("Compare in one session, with --gate-against, before you upgrade to torch 2.15.0: ")
    assert sentence.endswith("int8: speedup 2.50 on a processor (avx2), was 3.00 with torch 2.13.0+cpu.")
    faster = summarize(NEW, seconds={"int8": 0.8 * SECONDS["int8"]})
    assert advise(summarize(OLD), faster).startswith("Upgrade")


def test_changed_loss_within_its_limit_does_not_prevent_an_upgrade(summarize):
    moved = summarize(NEW, fidelity={"int8": make_fidelity(FIDELITY["int8"].loss + 8e-5, 0.001, 0.9)})
    assert advise(summarize(OLD), moved).startswith("Upgrade")


def test_one_torch_asks_for_another(summarize):
    expected = "Measure another torch to compare: these runs have only torch 2.13.0, PASS on 1 processor."
    assert advise(summarize(OLD), summarize("2.13.0")) == expected


def test_kernels_are_named_if_a_processor_has_several(summarize):
    runs = [summarize(torch, {"kernels": kernels}) for torch in (OLD, NEW) for kernels in ("avx2", "portable")]
    runs[-1] = summarize(NEW, {"kernels": "portable"}, seconds=SLOW)
    assert "int8: FAIL on a processor (avx2) with kernels portable;" in advise(*runs)


def test_sentence_names_three_reasons_and_counts_the_others(summarize):
    others = [summarize(NEW, {"cpu": name}, seconds=SLOW) for name in "abcde"]
    sentence = advise(summarize(OLD), summarize(NEW), *others)
    assert sentence.count("FAIL") == 3
    assert sentence.endswith("; and 2 more.")
