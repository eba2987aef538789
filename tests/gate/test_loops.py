"""Laws of two functions in turn: each leads as often as the other, warm-ups do not count, and looks are as planned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate.loops import WARM_UP_PAIRS, time_in_turn
from lstmq.gate.statistics import Looks

LOOKS = Looks(blocks=(10, 20, 40))


def run(target_seconds, reference_seconds, pairs=2, looks=LOOKS, is_settled=lambda interval: False):
    """Time two functions that only advance a clock. Return the result, and the order in which they ran."""
    now, order = [0.0], []

    def make(name, seconds):
        def function(number):
            order.append((number, name))
            now[0] += seconds(number)

        return function

    functions = make("target", target_seconds), make("reference", reference_seconds)
    return time_in_turn(*functions, lambda: now[0], pairs=pairs, looks=looks, is_settled=is_settled), order


@given(st.floats(0.1, 10), st.integers(1, 5))
def test_ratio_is_that_of_the_seconds_and_warm_ups_do_not_count(ratio, pairs):
    def seconds(number):
        return 1e6 if number < WARM_UP_PAIRS else ratio

    (measured, sample), _ = run(seconds, lambda _: 1.0, pairs)
    assert sample.blocks == pytest.approx([ratio] * 40)
    assert measured == pytest.approx([ratio] * 40 * pairs)


def test_functions_take_turns_in_running_first():
    _, order = run(lambda _: 1.0, lambda _: 1.0)
    first = [name for _, name in order[::2]]
    assert first[::2] == ["target"] * (len(first) // 2)
    assert first[1::2] == ["reference"] * (len(first) // 2)
    assert [number for number, _ in order[::2]] == [number for number, _ in order[1::2]] == [*range(len(first))]


@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_timing_ends_at_the_first_planned_look_that_settles(answers):
    remaining, intervals = iter(answers), []

    def is_settled(interval):
        intervals.append(interval)
        return next(remaining)

    (_, sample), _ = run(lambda _: 2.0, lambda _: 1.0, is_settled=is_settled)
    taken = answers.index(True) + 1 if True in answers else 3
    assert len(intervals) == taken
    assert len(sample.blocks) == LOOKS.blocks[taken - 1]
