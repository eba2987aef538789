"""Laws of runs: figures come from the same slices and windows, and runs under other conditions are told apart."""

import copy
from dataclasses import replace

import pytest

from lstmq import batchify, next_words
from lstmq.gate.recording import FLOAT32_COPY
from lstmq.gate.runs import conditions, describe_workload
from lstmq.gate.statistics import median_interval
from lstmq.quantization.schemes import FLOAT32
from lstmq.workload.subject import Subject, Workload
from runs import FIDELITY, LIMITS, MACHINE, SECONDS, SIZES, WORKLOAD, make_environment, make_run, make_slices
from strategies import random_ids

# Conditions.


def on_machine(**changes):
    return make_run(make_environment(machine=replace(MACHINE, **changes)))


def with_window(bptt):
    run = make_run()
    return replace(run, recording=replace(run.recording, plan=replace(run.recording.plan, bptt=bptt)))


@pytest.mark.parametrize(
    ("then", "differences"),
    [
        (on_machine(cpu="another"), ["cpu a processor now, another then"]),
        (on_machine(isa="avx512_vnni"), ["isa avx2 now, avx512_vnni then"]),
        (on_machine(engine="qnnpack"), ["engine x86 now, qnnpack then"]),
        (on_machine(kernels="portable"), ["kernels avx2 now, portable then"]),
        (on_machine(threads=2), ["threads 1 now, 2 then"]),
        (make_run(workload=replace(WORKLOAD, fingerprint="fedcba")), ["workload 0123456789abcdef now, fedcba then"]),
        (with_window(1), ["window 25 now, 1 then"]),
        (make_run(tokens=50), ["slice 100 now, 50 then"]),
        (on_machine(cpu="another", threads=2), ["cpu a processor now, another then", "threads 1 now, 2 then"]),
        (on_machine(torch="2.14.0"), []),
        (on_machine(python="3.14.0"), []),
        (make_run(date="another"), []),
        (make_run(limits={}), []),
        (make_run({model: make_slices(seconds, workers=8, slices=2) for model, seconds in SECONDS.items()}), []),
    ],
)
def test_conditions_of_two_runs_differ_in_what_changes_the_figures_except_torch(then, differences):
    assert make_run().conditions.differences(then.conditions) == differences
    assert (make_run().conditions == then.conditions) == (not differences)


def test_conditions_are_known_before_the_session_is_measured():
    run = make_run()
    assert conditions(MACHINE, WORKLOAD, run.recording.plan) == run.conditions


# Workloads.


def make_subject(model, tokens=50, seed=0, origin="a test"):
    return Subject(model=model, stream=next_words(batchify(random_ids(30, tokens, seed), 1)), origin=origin)


def fingerprint(subject):
    return describe_workload(Workload(speed=subject, loss=subject)).fingerprint


def test_fingerprint_depends_on_weights_and_ids_only(model):
    changed = copy.deepcopy(model)
    changed.decoder.bias.data[0] += 1
    same = {fingerprint(make_subject(copy.deepcopy(model), origin="another")), fingerprint(make_subject(model))}
    assert len(same) == 1
    assert len({*same, fingerprint(make_subject(changed)), fingerprint(make_subject(model, seed=1))}) == 3


def test_fingerprint_of_a_bfloat16_stream_is_computed(model):
    subject = make_subject(model)
    stream = replace(subject.stream, inputs=subject.stream.inputs.bfloat16())
    assert fingerprint(replace(subject, stream=stream)) != fingerprint(subject)


def test_fingerprint_depends_on_what_is_kept_and_on_the_call(model):
    subject = make_subject(model)
    prints = {
        fingerprint(changed)
        for changed in (
            subject,
            replace(subject, keep=("rnn",)),
            replace(subject, stream=replace(subject.stream, call=lambda model, inputs: model(inputs))),
        )
    }
    assert len(prints) == 3


def test_describe_workload_names_both_origins(model):
    workload = Workload(speed=make_subject(model, origin="one"), loss=make_subject(model, origin="two"))
    description = describe_workload(workload)
    assert (description.speed, description.loss) == ("one", "two")


# Figures.


def test_figures_are_ratios_of_the_same_slices_and_differences_from_float32():
    """In process after process, float32 takes 3, 4, ... times as long as int8."""
    float32 = [[float(process + 3)] * 4 for process in range(9)]
    run = make_run({FLOAT32: float32, FLOAT32_COPY: float32, "int8": [[1.0] * 4] * 9})
    figures = run.figures("int8")
    assert figures["speedup"] == run.recording.speedup("int8")
    assert figures["speedup"].blocks == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert run.speedup("int8") == median_interval(range(3, 12))
    assert figures["size_ratio"].median == SIZES[FLOAT32] / SIZES["int8"]
    assert figures["loss_difference"].median == FIDELITY["int8"].loss - FIDELITY[FLOAT32].loss
    assert (figures["kl"].median, figures["agreement"].median) == (FIDELITY["int8"].kl, FIDELITY["int8"].agreement)


def test_figures_without_a_divergence_lack_its_metrics():
    """A loss that is not a cross-entropy comes without them."""
    fidelity = {model: replace(result, kl=None, agreement=None) for model, result in FIDELITY.items()}
    run = make_run(make_environment(fidelity=fidelity))
    assert run.figures("int8").keys() == {"speedup", "size_ratio", "loss_difference", "quantized_share"}


def test_least_speedup_is_the_limit_unless_exempt_or_absent():
    assert make_run().least_speedup("int8") == LIMITS["int8"].default["speedup"].at_least
    assert make_run(exempt=["speedup"]).least_speedup("int8") is None
    assert make_run(limits={}).least_speedup("int8") is None
