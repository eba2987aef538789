"""What the fixtures of the gate do: time a model, judge it, and show its seconds as those of a benchmark."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from lstmq.errors import one_line
from lstmq.gate import Figure, Outcome, Run, Verdict, judge_session
from lstmq.gate.loops import Round
from lstmq.gating.session import Gate
from lstmq.quantization import FLOAT32

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

CLOCK = [0.0]  # the clock of pytest-benchmark, which replays the seconds that the gate measured


class NotPassed(pytest.fail.Exception):  # type: ignore[name-defined,misc] # pytest sets it where types cannot see
    """A verdict that is not a pass, as opposed to any other failure."""

    __module__ = "builtins"  # like pytest's own, so that the summary line starts with the verdict


def judge_model(request: pytest.FixtureRequest, benchmark: "BenchmarkFixture", gate: Gate, model: str) -> Run:
    """Fail the benchmark unless a model passes: a scheme by its limits, float32 by how noisy the machine is."""
    run = _measure(request, benchmark, gate)
    here = run.recording.here
    if model in here.absent:
        pytest.skip(f"not measured: {here.absent[model]}")  # the gate's verdict is the same, and no pass
    _replay(benchmark, [t for process in here.seconds[model] for t in process if t is not None])
    plan = run.recording.plan
    benchmark.extra_info.update(gate_facts(gate), tokens=plan.tokens * plan.columns)
    benchmark.extra_info.update(loss=run.fidelity(model).loss, size=run.size(model))
    if model == FLOAT32:
        verdicts = judge_session(run)
        benchmark.extra_info["ratio_to_its_copy"] = verdicts[0].figure and asdict(verdicts[0].figure)
    else:
        benchmark.extra_info.update({metric: asdict(figure) for metric, figure in run.figures(model).items()})
        verdicts = gate.judge_scheme(model)
    check_passed(verdicts)
    return run


def _measure(request: pytest.FixtureRequest, benchmark: "BenchmarkFixture", gate: Gate) -> Run:
    check_enabled(benchmark)
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            return gate.run
    except (ValueError, OSError, RuntimeError) as error:  # the session failed, or its files cannot be written
        gate.error = request.session.shouldfail = one_line(error)  # no other benchmark starts
        raise NotPassed(gate.error, pytrace=False) from None


def judge_ratio(
    benchmark: "BenchmarkFixture", gate: Gate, case: str, metric: str, target: Round, reference: Round, **timing: Any
) -> None:
    """Time two functions in turn, and judge the seconds of the first over those of the second."""
    check_enabled(benchmark)
    seconds, sample = gate.time_case(case, metric, target, reference, **timing)
    _replay(benchmark, seconds)
    (verdict,) = gate.judge_case(case, {metric: sample})
    benchmark.extra_info.update({metric: verdict.figure and asdict(verdict.figure), "blocks": len(sample.blocks)})
    check_passed([verdict])


def judge_case(gate: Gate, case: str, figures: dict[str, Figure]) -> list[Verdict]:
    """Judge figures of a benchmark that measures no model."""
    return check_passed(gate.judge_case(case, figures))


def gate_facts(gate: Gate) -> dict[str, object]:
    """Return what every benchmark notes: the machine, torch, the engine, the threads, the window."""
    return asdict(gate.machine) | {"bptt": gate.plan.bptt}


def check_enabled(benchmark: "BenchmarkFixture") -> None:
    """Fail the benchmark if benchmarks are disabled, as they are under pytest-xdist."""
    if benchmark.disabled:
        raise NotPassed("not measured: benchmarks are disabled", pytrace=False)


def check_passed(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the verdicts, or fail with those that do not pass."""
    if failed := [str(verdict) for verdict in verdicts if verdict.outcome not in (Outcome.PASS, Outcome.UNJUDGED)]:
        raise NotPassed("; ".join(failed), pytrace=False)
    return verdicts


def _replay(benchmark: "BenchmarkFixture", seconds: Sequence[float]) -> None:
    """Let pytest-benchmark measure seconds that the gate has already measured, because it timed other code in turn."""
    replayed = iter(seconds)
    pedantic: Any = benchmark.pedantic
    pedantic(lambda: CLOCK.append(CLOCK[-1] + next(replayed)), rounds=len(seconds))
