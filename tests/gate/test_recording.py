"""Laws of recordings: a plan has something to do, and ratios and times come from slices that were read."""

import pytest

from lstmq.gate.recording import FLOAT32_COPY, Plan, ratios
from lstmq.quantization.schemes import FLOAT32
from runs import make_environment

# Plans.


@pytest.mark.parametrize("name", ["workers", "slices", "tokens", "bptt", "threads", "columns"])
def test_plan_refuses_numbers_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
        Plan(schemes=("int8",), **{name: 0})


def test_plan_refuses_a_negative_number_of_quantized_slices():
    with pytest.raises(ValueError, match="quantized_slices must be at least 0, found -1"):
        Plan(schemes=("int8",), quantized_slices=-1)


def test_clock_is_cpu_time_with_one_thread_and_else_wall_time():
    assert Plan(schemes=()).clock == "cpu"
    assert Plan(schemes=(), threads=2).clock == "wall"


# Times.


def test_us_per_token_is_the_median_over_processes_per_token_and_column():
    environment = make_environment(seconds={FLOAT32: [[0.3, 0.1, 0.2], [0.5, 0.5, None], [0.7, 0.9, 0.8]]})
    assert environment.us_per_token(FLOAT32, Plan(schemes=(), tokens=100)) == pytest.approx(5_000)
    assert environment.us_per_token(FLOAT32, Plan(schemes=(), tokens=100, columns=5)) == pytest.approx(1_000)


def test_ratios_come_from_slices_that_both_models_read():
    assert ratios([[3.0, None], [8.0, 6.0]], [[1.0, 2.0], [4.0, 2.0]]) == [[3.0], [2.0, 3.0]]


def test_copy_ratios_divide_float32_by_its_copy():
    environment = make_environment(seconds={FLOAT32: [[3.0, 4.0]], FLOAT32_COPY: [[3.0, 2.0]]})
    assert environment.copy_ratios() == [[1.0, 2.0]]
