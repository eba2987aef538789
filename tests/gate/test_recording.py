"""Laws of recordings: a plan has something to do, and ratios and times come from slices that were read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate.recording import FLOAT32_COPY, Plan, ratios
from lstmq.gate.statistics import Sample
from lstmq.quantization.schemes import FLOAT32
from runs import make_environment, make_run

# Plans.


@pytest.mark.parametrize(
    "name", ["blocks", "slices", "float32_slices", "figures", "tokens", "bptt", "threads", "columns"]
)
def test_plan_refuses_numbers_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
        Plan(schemes=("int8",), **{name: 0})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"float32_slices": 9}, "float32_slices must be at most slices, 6, found 9"),
        ({"tolerance": 0.0}, "tolerance must be between 0 and 1, found 0.0"),
        ({"looks": (24, 45)}, "expected looks after multiples of 6 blocks, found 24, 45"),
        ({"looks": (48, 24)}, "expected looks after ascending numbers of blocks, such as 24, 48, 96, found 48, 24"),
    ],
)
def test_plan_refuses_what_cannot_be_measured(fields, message):
    with pytest.raises(ValueError, match=message):
        Plan(schemes=("int8",), **fields)


def test_clock_is_cpu_time_with_one_thread_and_else_wall_time():
    assert Plan(schemes=()).clock == "cpu"
    assert Plan(schemes=(), threads=2).clock == "wall"


# Times.


def test_us_per_token_is_the_median_slice_per_token_and_column():
    environment = make_environment(seconds={FLOAT32: [[0.3, 0.1, 0.2], [0.5, 0.5, None], [0.7, None, 0.8]]})
    assert environment.us_per_token(FLOAT32, Plan(schemes=(), tokens=100)) == pytest.approx(5_000)
    assert environment.us_per_token(FLOAT32, Plan(schemes=(), tokens=100, columns=5)) == pytest.approx(1_000)


def test_ratios_come_from_slices_that_both_models_read():
    assert ratios([[3.0, None], [8.0, 6.0]], [[1.0, 2.0], [4.0, None]]) == [[3.0, None], [2.0, None]]


def test_sample_has_the_median_of_each_block_in_which_something_was_read():
    plan = Plan(schemes=(), looks=(2, 4), blocks=2, slices=3, float32_slices=2)
    sample = plan.sample([[5.0, 1.0, 3.0, 7.0, 8.0, None], [None, None, None, 2.0, None, None]])
    assert sample == Sample(blocks=[3.0, 7.5, 2.0], looks=plan.planned_looks)


@given(st.lists(st.lists(st.floats(0.1, 10), min_size=6, max_size=6), min_size=1, max_size=4), st.randoms())
def test_sample_does_not_depend_on_the_order_within_a_block(processes, random):
    plan = Plan(schemes=(), looks=(8,), blocks=2, slices=3, float32_slices=3)
    mixed = [random.sample(process[:3], 3) + random.sample(process[3:], 3) for process in processes]
    assert plan.sample(mixed) == plan.sample(processes)


def test_recording_divides_float32_by_schemes_by_its_copy_and_by_the_other_environment():
    here = make_environment(seconds={FLOAT32: [[6.0]], FLOAT32_COPY: [[3.0]], "int8": [[2.0]]})
    there = make_environment("there", seconds={FLOAT32: [[4.0]], FLOAT32_COPY: [[8.0]], "int8": [[8.0]]})
    recording = make_run(here, there).recording
    samples = (
        recording.speedup("int8"),
        recording.over_copy(here),
        recording.over_copy(there),
        recording.slower("int8"),
        recording.slower(FLOAT32),
    )
    assert [sample.blocks for sample in samples] == [[3.0], [2.0], [0.5], [0.25], [1.5]]
    with pytest.raises(ValueError, match="there is no other environment"):
        make_run(here).recording.slower("int8")
