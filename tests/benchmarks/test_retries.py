"""Laws of ``--gate-retries``: what is undecided is measured again, as often as asked. What failed or passed is not."""

from types import SimpleNamespace

import pytest

from lstmq.gate import Looks
from lstmq.gate.limits import CaseLimits, Limit
from lstmq.gating.session import Gate
from runs import MACHINE

AGAIN = "measured again: "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_least", "exit_code", "retries"),
    [(2.5, 10, 2), (3.0, 1, 0), (2.0, 0, 0)],
    ids=["undecided", "failed", "passed"],
)
def test_only_an_undecided_session_is_measured_again(suite, at_least, exit_code, retries):
    """On the fake clock, int8 is 2.5 times as fast as float32, give or take the noise."""
    limits = {"int8": f"speedup = {{ at_least = {at_least} }}"}
    result = suite("--gate-retries=2", sabotage={"fake_clock": 0.05}, limits=limits)
    assert result.exit_code == exit_code, result
    assert result.output.count(AGAIN) == retries


@pytest.mark.parametrize(("seconds", "timings"), [(1.05, 3), (2.0, 1), (1.0, 1)], ids=["undecided", "failed", "passed"])
def test_only_an_undecided_case_is_timed_again(seconds, timings):
    """The limit is 1.05. The target takes ``seconds`` when the reference takes one, give or take a hundredth."""
    clock, calls = [0.0], [0, 0]

    def run(kind, takes):
        calls[kind] += 1
        clock[0] += takes * (1 + 0.01 * (-1) ** (calls[kind] // 2))

    gate = object.__new__(Gate)
    gate.limits = {"evaluate": CaseLimits(default={"overhead": Limit(at_most=1.05)})}
    gate.machine, gate._retries, gate.retry_notes = MACHINE, 2, []
    gate.plan = SimpleNamespace(planned_looks=Looks(blocks=(24,)))
    gate.time_case(
        "evaluate", "overhead", lambda _: run(0, seconds), lambda _: run(1, 1.0), clock=lambda: clock[0], pairs=1
    )
    assert len(gate.retry_notes) == timings - 1
    assert calls[0] == timings * (24 + 2)
