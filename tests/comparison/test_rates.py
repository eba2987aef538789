"""Laws of rates: functions take turns, each warms up before it counts, and the time is bounded."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.comparison import rates as rates_module
from lstmq.comparison.rates import measure_rates


class FakeMachine:
    """A clock that goes on only while functions work, each with a speed of its own."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def clock(self):
        return self.now

    def work(self, name, speed):
        def run(times):
            self.calls.append(name)
            self.now += times / speed
            return times

        return run


def measure(speeds, **options):
    machine = FakeMachine()
    works = {name: machine.work(name, speed) for name, speed in speeds.items()}
    defaults = {"seconds": 1.0, "rounds": 3, "at_most": 1e9, "now": machine.clock}
    return measure_rates(works, machine.clock, **(defaults | options)), machine


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(1e-3, 1e6), min_size=1))
def test_rates_are_the_speeds_of_the_functions(speeds):
    rates, _ = measure(speeds)
    assert rates.keys() == speeds.keys()
    for name, speed in speeds.items():
        assert rates[name] == pytest.approx([speed] * 3, rel=1e-3)


def test_each_function_works_twice_in_a_round_and_the_order_alternates():
    _, machine = measure({"a": 0.5, "b": 0.5})  # so slow that one call is enough to know how slow
    assert machine.calls == ["a", "b", *"aabb", *"bbaa", *"aabb"]


@pytest.mark.parametrize(("at_most", "at_least", "rounds"), [(1e9, 1, 3), (0, 1, 1), (0, 2, 2), (7, 1, 2)])
def test_no_round_begins_after_the_time_but_a_few_are_complete(at_most, at_least, rounds):
    rates, _ = measure({"a": 0.5}, at_most=at_most, at_least=at_least)  # 2 seconds to start with, and 4 in a round
    assert len(rates["a"]) == rounds


def test_example_prints_what_it_shows():
    assert doctest.testmod(rates_module) == (0, 4)
