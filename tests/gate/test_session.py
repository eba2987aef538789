"""Laws of a session: all models read all slices in turn, each as often before as after every other.

Most sessions here have fake workers, because a real one imports torch first.
"""

import copy
import itertools
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmq
from gate.fakes import ONE_LOOK, STEPS, UNQUANTIZED, WORKLOAD, FakeEnvironment, all_times, measure_fake, read_all
from lstmq import evaluate
from lstmq.comparison.fidelity import compare_predictions
from lstmq.comparison.machine import describe_machine
from lstmq.gate import session
from lstmq.gate.processes import Environment
from lstmq.gate.recording import Plan
from lstmq.gate.session import measure
from lstmq.model.size import model_size
from lstmq.quantization.schemes import FLOAT32, quantize


def orders_by_slice(plan, slices, readings, names=("here", "there")):
    """Return the (environment, model) pairs that a worker read, slice by slice, in the order of reading."""
    remaining = iter(readings)
    orders = []
    for place, first in enumerate(slices):
        models = plan.schemes if place % plan.slices >= plan.float32_slices else (*UNQUANTIZED, *plan.schemes)
        order = [*itertools.islice(remaining, len(names) * len(models))]
        expected = {(name, model, first) for name in names for model in models}
        assert {(reading.environment, reading.model, reading.first) for reading in order} == expected
        orders.append([(reading.environment, reading.model) for reading in order])
    assert next(remaining, None) is None
    return orders


@st.composite
def make_plans(draw):
    """Draw a plan whose blocks have an even number of slices, so that each order has its mirror image."""
    slices, blocks = 2 * draw(st.integers(1, 6)), draw(st.integers(1, 3))
    looks = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True))
    return Plan(
        schemes=draw(st.sampled_from([("int8",), ("int8", "bf16")])),
        looks=tuple(blocks * look for look in sorted(looks)),
        blocks=blocks,
        slices=slices,
        float32_slices=2 * draw(st.integers(1, slices // 2)),
        tokens=draw(st.sampled_from([5, 30, 100])),
        seed=draw(st.integers(0, 5)),
    )


plans = make_plans()


@settings(max_examples=20)
@given(plans, st.sampled_from([("here",), ("here", "there")]))
def test_all_models_read_a_slice_before_any_reads_the_next(plan, names):
    """The float32 model and its copy read only the first slices of a block."""
    recording, readings = measure_fake(plan, names)
    for slices, read in zip(recording.slices, readings, strict=True):
        assert len(orders_by_slice(plan, slices, read, names)) == plan.blocks * plan.slices


@settings(max_examples=20)
@given(plans)
def test_every_model_reads_as_often_before_as_after_every_other(plan):
    recording, readings = measure_fake(plan)
    for slices, read in zip(recording.slices, readings, strict=True):
        before = Counter()
        for order in orders_by_slice(plan, slices, read):
            before.update(itertools.combinations(order, 2))
        assert before
        assert all(count == before[second, first] for (first, second), count in before.items())


@settings(max_examples=20)
@given(plans)
def test_recording_has_the_time_of_every_reading_in_its_place(plan):
    recording, readings = measure_fake(plan)
    for name, environment in recording.environments.items():
        assert list(environment.seconds) == [*UNQUANTIZED, *plan.schemes]
        for model, processes in environment.seconds.items():
            for number, times in enumerate(processes):
                mine = [each for each in readings[number] if (each.environment, each.model) == (name, model)]
                assert [time for time in times if time is not None] == [reading.seconds for reading in mine]
                starts = zip(recording.slices[number], times, strict=True)
                assert [first for first, time in starts if time is not None] == [reading.first for reading in mine]
                assert environment.wall[model][number] == [time and 2 * time for time in times]
            assert len(processes) == plan.max_processes
    assert len(all_times(recording, "seconds")) == sum(map(len, readings))


@settings(max_examples=20)
@given(plans)
def test_slices_lie_in_the_stream_and_none_repeats_before_all_were_drawn(plan):
    recording, _ = measure_fake(plan, ["here"])
    starts = range(0, STEPS - plan.tokens + 1, plan.tokens)
    for slices in recording.slices:
        counts = Counter(slices)
        assert counts.keys() <= {*starts}
        assert max(counts.values()) - min(counts[first] for first in starts) <= 1


def test_orders_and_slices_depend_on_the_seed_and_differ_between_workers():
    plan = replace(ONE_LOOK, looks=(2,), tokens=5)
    recording, readings = measure_fake(plan)
    assert (recording, readings) == measure_fake(plan)
    other_recording, other_readings = measure_fake(replace(plan, seed=1))
    assert other_readings != readings
    assert other_recording.slices != recording.slices
    orders = [[(reading.environment, reading.model) for reading in read] for read in readings]
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("slices", "blocks", "moves"), [(6, 5, 3), (4, 9, 3), (30, 2, 2), (5, 6, 2)])
def test_models_move_at_the_start_of_a_block_after_12_slices_or_more(slices, blocks, moves):
    plan = replace(ONE_LOOK, looks=(blocks,), blocks=blocks, slices=slices, float32_slices=slices, tokens=5)
    readings = []
    measure(WORKLOAD, plan, [FakeEnvironment("here", readings, [])], read_all)
    warm_ups = [reading.model for reading in readings if reading.warms_up]
    assert warm_ups == [*UNQUANTIZED, "int8"] * moves  # the first one when the process starts
    assert session.MOVE_SLICES == 12


def test_on_block_is_called_after_every_block():
    calls = []
    measure_fake(replace(ONE_LOOK, looks=(4,), blocks=2), on_block=calls.append)
    assert calls == [f"process {process}, block {block} of 2" for process in (1, 2) for block in (1, 2)]


def test_stream_shorter_than_a_slice_is_refused():
    measure_fake(replace(ONE_LOOK, tokens=STEPS))
    with pytest.raises(ValueError, match=f"expected a stream of at least {STEPS + 1} steps, found {STEPS}"):
        measure_fake(replace(ONE_LOOK, tokens=STEPS + 1))


def test_seconds_are_wall_time_with_several_threads():
    recording, _ = measure_fake(ONE_LOOK)
    assert recording.here.seconds != recording.here.wall
    recording, _ = measure_fake(replace(ONE_LOOK, threads=2))
    assert recording.here.seconds == recording.here.wall


def test_session_does_not_change_the_workload():
    models = [subject.model for subject in (WORKLOAD.speed, WORKLOAD.loss)]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    measure_fake(ONE_LOOK)
    for model, weights in zip(models, before, strict=True):
        assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


PRINTING_WORKER = """
from lstmq import quantize
from lstmq.gate.worker import Worker, main

def print_and_quantize(model, scheme, engine, keep):
    print("quantizing")
    return quantize(model, scheme, engine, keep)

main(Worker(quantize=print_and_quantize))
"""


@pytest.mark.slow
def test_session_of_real_workers_records_what_this_process_computes(started):
    """Sizes are those of the model that is timed, losses those of the other one. What a worker prints is no answer."""
    plan = replace(ONE_LOOK, schemes=("int8", "bf16"), float32_slices=2, tokens=10, bptt=7)
    here = Environment.here()
    there = replace(here, name="there", command=(sys.executable, "-P", "-c", PRINTING_WORKER))
    recording = measure(WORKLOAD, plan, [here, there], read_all)
    assert len(started) == 2
    assert recording.plan == plan
    assert [len(slices) for slices in recording.slices] == [4]
    models = {FLOAT32: WORKLOAD.loss.model} | {name: quantize(WORKLOAD.loss.model, name) for name in plan.schemes}
    fidelity = compare_predictions(WORKLOAD.loss.model, models, WORKLOAD.loss.stream, 7)
    for name, model in models.items():
        assert fidelity[name].loss == pytest.approx(evaluate(model, WORKLOAD.loss.stream, 7), rel=1e-6)
    for environment in (recording.here, recording.there):
        assert environment.lstmq == lstmq.__version__
        assert environment.location == str(Path(lstmq.__file__).parent)
        assert environment.machine == replace(describe_machine(), threads=1)
        assert {*environment.models} == {*UNQUANTIZED, "int8", "bf16"}
        assert environment.absent == {}
        assert environment.fidelity == fidelity
        assert environment.sizes[FLOAT32].total == model_size(WORKLOAD.speed.model).total
        assert environment.sizes["int8"] == model_size(quantize(WORKLOAD.speed.model, "int8"))
        for seconds in (environment.seconds, environment.wall):
            for model, processes in seconds.items():
                for times in processes:
                    assert [time is None for time in times] == [False, False, *[model in UNQUANTIZED] * 2]
                    assert all(time > 0 for time in times if time is not None)
