"""Laws of runs: figures are of the same slices, windows and weights; runs of other conditions are told apart."""

import copy

import pytest

from lstmq import batchify, next_words
from lstmq.gate import judge
from lstmq.gate.processes import HERE, THERE
from lstmq.gate.runs import conditions, describe_workload, differences
from lstmq.gate.statistics import interval_over_processes
from lstmq.gate.verdicts import Outcome, worst
from lstmq.gate.worker import FLOAT32_COPY
from lstmq.quantization.schemes import FLOAT32
from lstmq.workload.subject import Subject, Workload
from strategies import FAR, SECONDS, SIZES, a_run, slices, stream


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"told": {"machine": {"cpu": "another"}}}, "cpu a processor now, another then"),
        ({"told": {"machine": {"isa": "avx512_vnni"}}}, "isa avx2 now, avx512_vnni then"),
        ({"told": {"machine": {"engine": "qnnpack"}}}, "engine x86 now, qnnpack then"),
        ({"told": {"machine": {"threads": 2}}}, "threads 1 now, 2 then"),
        (
            {"workload": {"speed": "a model", "loss": "a model", "fingerprint": "fedcba"}},
            "workload 0123456789abcdef now, fedcba then",
        ),
        ({"tokens": 50}, "slice 100 now, 50 then"),
        ({"told": {"machine": {"torch": "2.14.0"}}}, None),
        ({"told": {"machine": {"python": "3.14.0"}}}, None),
        ({"date": "another"}, None),
        ({"floors": {}}, None),
        ({"here": {name: slices(seconds, workers=8, each=2) for name, seconds in SECONDS.items()}}, None),
    ],
)
def test_runs_are_of_the_same_conditions_or_it_is_told_which_differ(change, told):
    assert differences(a_run().conditions, a_run(**change).conditions) == ([told] if told else [])


def test_another_window_is_another_condition():
    other = a_run()
    other.recording.plan["bptt"] = 1
    assert differences(a_run().conditions, other.conditions) == ["window 25 now, 1 then"]


def test_all_that_differs_is_told():
    nothing = conditions({}, {}, {})
    assert nothing.keys() == {"cpu", "isa", "engine", "native", "threads", "workload", "window", "slice"}
    assert len(differences(a_run().conditions, nothing)) == 7


def test_a_fingerprint_is_of_shapes_weights_and_ids_and_of_nothing_else(model):
    def of(**change):
        facts = {"model": model, "stream": next_words(batchify(stream(30, 50, 0), 1)), "origin": "a"}
        subject = Subject(**facts | change)
        return describe_workload(Workload(speed=subject, loss=subject))["fingerprint"]

    other = copy.deepcopy(model)
    other.decoder.bias.data[0] += 1
    assert of() == of(origin="b") == of(model=copy.deepcopy(model))
    assert len({of(), of(model=other), of(stream=next_words(batchify(stream(30, 50, 1), 1)))}) == 3
    assert describe_workload(
        Workload(
            speed=Subject(model=model, stream=next_words(batchify(stream(30, 5, 0), 1)), origin="one"),
            loss=Subject(model=model, stream=next_words(batchify(stream(30, 5, 0), 1)), origin="two"),
        )
    ).items() >= {("speed", "one"), ("loss", "two")}


# Figures.


def test_the_figures_are_ratios_of_the_same_slices_and_differences_from_float32():
    """Of made-up seconds: worker by worker, float32 takes 3, 4, ... times as long as int8."""
    float32 = [[float(worker + 3)] * 4 for worker in range(9)]
    run = a_run({FLOAT32: float32, FLOAT32_COPY: float32, "int8": [[1.0] * 4] * 9})
    figures = run.figures("int8")
    assert figures["speedup"] == run.speedup("int8") == interval_over_processes(float32)
    assert (figures["speedup"].median, figures["speedup"].lower, figures["speedup"].upper) == (7, 3, 11)
    assert figures["size_ratio"].median == SIZES[FLOAT32] / SIZES["int8"]
    assert figures["loss_difference"].median == pytest.approx(FAR["int8"][0] - FAR[FLOAT32][0])
    assert (figures["kl"].median, figures["agreement"].median) == FAR["int8"][1:]
    assert run.us_per_token(HERE, FLOAT32) == 7 / 100 * 1e6
    run.recording.plan["columns"] = 5
    assert run.us_per_token(HERE, FLOAT32) == pytest.approx(7 / 500 * 1e6)
    assert run.fidelity(HERE, "int8").loss == pytest.approx(FAR["int8"][0])


def test_a_mean_loss_is_over_tokens_and_not_over_windows():
    run = a_run()
    run.recording.environments[HERE]["fidelity"]["int8"] |= {"losses": [1.0, 4.0], "tokens": [2, 1]}
    assert run.fidelity(HERE, "int8").loss == 2


def test_ratios_are_of_slices_that_both_read():
    here = {FLOAT32: [[3.0, None]], FLOAT32_COPY: [[3.0, None]], "int8": [[1.0, 2.0]]}
    run = a_run(here, here)
    assert run.ratios((HERE, FLOAT32), (HERE, "int8")) == [[3.0]]
    assert run.ratios((HERE, "int8"), (THERE, "int8")) == [[1.0, 1.0]]


def test_the_builder_builds_what_can_be_judged():
    """So that what tests say of made-up runs is of runs."""
    assert worst(judge.judge(a_run(there={}), a_run())) is Outcome.PASS
