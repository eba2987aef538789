"""Laws of the time per word in the gate: it is measured only if the limits say so, and judged as a speedup is."""

from dataclasses import replace

import pytest

from gate.fakes import ONE_LOOK, measure_fake
from lstmq.gate.judge import judge_scheme, undecided_figures
from lstmq.gate.limits import CaseLimits, Limit, proposed_limit, word_schemes
from lstmq.gate.recording import Plan
from lstmq.gate.verdicts import Outcome
from lstmq.quantization.schemes import FLOAT32
from runs import LIMITS, make_environment, make_run, make_slices

PLAN = Plan(schemes=("int8", "bf16"), looks=(4, 8), blocks=2, slices=2, float32_slices=2, words=("int8",))
ROW = {"int8": CaseLimits(default=LIMITS["int8"].default | {"word_speedup": Limit(at_least=2.0, measured=3.0)})}


def make_words_run(int8=1e-3, limits=ROW):
    """Return a run in which float32 takes 3 ms for each block of words."""
    words = {FLOAT32: make_slices(3e-3, slices=1), "int8": make_slices(int8, slices=1, seed=1)}
    return make_run(make_environment(words=words), limits=limits)


def metrics(run):
    return {verdict.metric: verdict for verdict in judge_scheme(run, "int8")}


# Limits.


def test_only_schemes_whose_limits_have_a_row_are_read_word_by_word():
    assert word_schemes(LIMITS, ["int8", "bf16"], "avx2") == ()
    assert word_schemes(ROW, ["int8", "bf16"], "avx2") == ("int8",)
    for_isa = {"bf16": CaseLimits(default={}, by_isa={"avx2": {"word_speedup": Limit(at_least=1.0)}})}
    assert word_schemes(for_isa, ["int8", "bf16"], "avx2") == ("bf16",)
    assert word_schemes(for_isa, ["int8", "bf16"], "amx_int8") == ()


# Measuring.


def test_session_without_a_row_reads_no_words():
    recording, _ = measure_fake(replace(PLAN, words=()))
    assert recording.here.words == recording.there.words == {}


def test_session_reads_words_of_float32_and_of_the_scheme_here_in_every_block():
    recording, _ = measure_fake(PLAN)
    assert recording.there.words == {}
    assert recording.here.words == {FLOAT32: [[8e-3] * 2] * 4, "int8": [[2e-3] * 2] * 4}
    assert recording.word_speedup("int8").blocks == [4.0] * 8
    assert recording.here.us_per_word(FLOAT32, PLAN) == pytest.approx(1000)


def test_short_slices_have_few_words():
    recording, _ = measure_fake(replace(ONE_LOOK, words=("int8",), tokens=5), names=("here",))
    assert recording.here.words == {FLOAT32: [[5e-3]], "int8": [[5 * 2.5e-4]]}


def test_words_of_a_scheme_that_is_settled_are_not_read_on():
    recording, _ = measure_fake(PLAN, undecided=lambda recording: {"bf16 speedup": (FLOAT32, "bf16")})
    assert recording.here.words["int8"] == [[2e-3] * 2] * 2 + [[None] * 2] * 2
    assert recording.here.words[FLOAT32] == [[8e-3] * 2] * 4
    assert recording.word_speedup("int8").blocks == [4.0] * 4


# Judging.


@pytest.mark.parametrize(("int8", "outcome"), [(1e-3, Outcome.PASS), (2e-3, Outcome.FAIL)])
def test_word_speedup_is_judged_by_its_limit(int8, outcome):
    verdict = metrics(make_words_run(int8))["word_speedup"]
    assert verdict.outcome is outcome
    assert verdict.figure.median == pytest.approx(3e-3 / int8, rel=1e-2)
    assert f"int8 {1e6 * int8 / 8:.1f}"[:8] in verdict.details
    assert " us/word; float32 37" in verdict.details


def test_word_speedup_without_a_row_is_not_judged():
    assert metrics(make_words_run(limits=LIMITS))["word_speedup"].outcome is Outcome.UNJUDGED
    assert "word_speedup" not in metrics(make_run())


def test_row_without_a_figure_is_not_measured():
    assert metrics(make_run(limits=ROW))["word_speedup"].outcome is Outcome.NOT_MEASURED


def test_inconclusive_word_speedup_is_read_on():
    run = make_words_run()
    words = {FLOAT32: make_slices(3e-3, slices=1, noise=0.0), "int8": [[1.4e-3], [1.6e-3]] * 6}
    run = replace(run, recording=replace(run.recording, here=replace(run.recording.here, words=words)))
    assert metrics(run)["word_speedup"].outcome is Outcome.INCONCLUSIVE
    assert undecided_figures(run) == {"int8 word_speedup": (FLOAT32, "int8")}


def test_proposed_limit_leaves_the_margin_of_the_old_one():
    after = proposed_limit("word_speedup", ROW["int8"].default["word_speedup"], 1.5)
    assert after.at_least == pytest.approx(1.0)
