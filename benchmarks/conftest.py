"""Fixtures and hooks that connect the gate with pytest and pytest-benchmark."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from gating import Gate
from lstmq import Workload, report
from lstmq.errors import one_line
from lstmq.escaping import show
from lstmq.files import atomic_write, to_finite
from lstmq.gate import KEY, Figure, Outcome, Run, Verdict, judge_session, proposed_limits, run_document, worst
from lstmq.gate.loops import Round
from options import add_options
from planning import DEFAULT_LIMITS
from saving import check_saving

CLOCK = [0.0]  # the clock of pytest-benchmark, which replays the seconds that the gate measured
GATE = pytest.StashKey[Gate]()


class NotPassed(pytest.fail.Exception):
    """A verdict that is not a pass, as opposed to any other failure."""

    __module__ = "builtins"  # like pytest's own, so that the summary line starts with the verdict


# Fixtures for the benchmarks.


@pytest.fixture(scope="session")
def gate_workload(pytestconfig: pytest.Config) -> Workload:
    """The workload of the session."""
    return pytestconfig.stash[GATE].workload


@pytest.fixture(scope="session")
def gate_facts(pytestconfig: pytest.Config) -> dict[str, object]:
    """What every benchmark notes in its ``extra_info``: the machine, torch, the engine, the threads, the window."""
    gate = pytestconfig.stash[GATE]
    return asdict(gate.machine) | {"bptt": gate.plan.bptt}


@pytest.fixture
def gate_timed(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Callable[[str], Run]:
    """A function from the name of a model to the run. The seconds of the model become those of the benchmark."""

    def timed(model: str) -> Run:
        _check_enabled(benchmark)
        gate = request.config.stash[GATE]
        try:
            with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                run = gate.run
        except (ValueError, OSError, RuntimeError) as error:  # the session failed, or its files cannot be written
            gate.error = request.session.shouldfail = one_line(error)  # no other benchmark starts
            raise NotPassed(gate.error, pytrace=False) from None
        here = run.recording.here
        if model in here.absent:
            pytest.skip(f"not measured: {here.absent[model]}")  # the gate's verdict is the same, and no pass
        _replay(benchmark, [t for process in here.seconds[model] for t in process if t is not None])
        benchmark.extra_info["tokens"] = run.recording.plan.tokens * run.recording.plan.columns
        return run

    return timed


@pytest.fixture
def gate_judge_ratio(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Callable[..., None]:
    """A function that times two functions in turn, and judges the seconds of the first over those of the second.

    As in ``gate_judge_ratio("train", "overhead", target, reference, clock=clock(), pairs=4)``. The arguments are those
    of :func:`lstmq.gate.time_in_turn`. The seconds of the first function become those of the benchmark.
    """

    def judge(case: str, metric: str, target: Round, reference: Round, **timing: Any) -> None:
        _check_enabled(benchmark)
        gate = pytestconfig.stash[GATE]
        seconds, sample = gate.time_case(case, metric, target, reference, **timing)
        _replay(benchmark, seconds)
        (verdict,) = gate.judge_case(case, {metric: sample})
        benchmark.extra_info.update({metric: asdict(verdict.figure), "blocks": len(sample.blocks)})
        _passed([verdict])

    return judge


def _check_enabled(benchmark: BenchmarkFixture) -> None:
    if benchmark.disabled:
        raise NotPassed("not measured: benchmarks are disabled", pytrace=False)


def _replay(benchmark: BenchmarkFixture, seconds: Sequence[float]) -> None:
    """Let pytest-benchmark measure seconds that the gate has already measured, because it timed other code in turn."""
    replayed = iter(seconds)
    benchmark.pedantic(lambda: CLOCK.append(CLOCK[-1] + next(replayed)), rounds=len(seconds))


@pytest.fixture
def gate_judge_session(pytestconfig: pytest.Config) -> Callable[[], list[Verdict]]:
    """A function that fails the benchmark if the machine is too noisy, else returns the verdicts."""
    return lambda: _passed(judge_session(pytestconfig.stash[GATE].run))


@pytest.fixture
def gate_judge_scheme(pytestconfig: pytest.Config) -> Callable[[str], list[Verdict]]:
    """A function from a scheme to its verdicts. It fails the benchmark unless all of them pass."""
    return lambda scheme: _passed(pytestconfig.stash[GATE].judge_scheme(scheme))


@pytest.fixture
def gate_judge_case(pytestconfig: pytest.Config) -> Callable[..., list[Verdict]]:
    """A function from a case and its figures to the verdicts, as in ``gate_judge_case("corpus", size=exact(9))``."""

    def judge(case: str, **figures: Figure) -> list[Verdict]:
        return _passed(pytestconfig.stash[GATE].judge_case(case, figures))

    return judge


def _passed(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the verdicts, or fail with those that do not pass."""
    if failed := [str(verdict) for verdict in verdicts if verdict.outcome not in (Outcome.PASS, Outcome.UNJUDGED)]:
        raise NotPassed("; ".join(failed), pytrace=False)
    return verdicts


# Hooks, from the options to the last line of the output.


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser.getgroup("lstmq"))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse saved runs that do not exist, and files that cannot be written, before anything is measured."""
    try:
        check_saving(config)
    except (ValueError, OSError) as error:
        raise pytest.UsageError(one_line(error)) from None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Load what the options name, so that a wrong option is a usage error of one line."""
    try:
        session.config.stash[GATE] = Gate(session.config)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        raise pytest.UsageError(one_line(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one case for each gated scheme."""
    if "scheme" in metafunc.fixturenames:
        metafunc.parametrize("scheme", metafunc.config.stash[GATE].plan.schemes)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Replay seconds in the benchmarks that the gate times, and skip those of lstmq itself if they do not count."""
    for item in items:
        gate, is_of_model = item.config.stash[GATE], "gate_timed" in item.fixturenames
        if is_of_model or "gate_judge_ratio" in item.fixturenames:
            marker = item.get_closest_marker("benchmark")
            options = dict(marker.kwargs) if marker else {"group": f"evaluate {gate.plan.tokens} tokens"}
            item.add_marker(pytest.mark.benchmark(**options, timer=lambda: CLOCK[-1]), append=False)
        if not is_of_model and not gate.measures_itself:
            item.add_marker(pytest.mark.skip(reason="it measures lstmq itself, which this session does not gate"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note a failure that is not a verdict. For the benchmark of a scheme, not having finished is already a verdict."""
    failed = call.excinfo and not call.excinfo.errisinstance((NotPassed, pytest.skip.Exception))
    if failed and ("gate_judge_scheme" not in item.fixturenames or call.when == "teardown"):
        item.config.stash[GATE].failures.append(item.nodeid)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Set the exit code before pytest-benchmark saves the run. An interrupted or unmeasured session is not saved."""
    if gate := _concluding_gate(session.config):
        finished = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        if finished:
            session.exitstatus = gate.conclude(failed=exitstatus == pytest.ExitCode.TESTS_FAILED)
        if not finished or not gate.is_measured:
            saving = session.config._benchmarksession
            saving.save = saving.autosave = saving.json = None
    return (yield)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, object]) -> None:
    """Add the raw times and the verdicts to what pytest-benchmark saves."""
    gate = config.stash[GATE]
    output_json.update(to_finite(output_json))
    if gate.is_measured:
        verdicts = gate.verdicts()
        output_json[KEY] = run_document(replace(gate.run, outcome=worst(verdicts).value), verdicts)


@pytest.hookimpl(trylast=True)  # after the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the verdicts, the proposed limits, and the conclusion."""
    if not (gate := _concluding_gate(config)):
        return
    verdicts, line = gate.verdicts(), terminalreporter.line
    notes = [f"speed and size: {gate.description.speed}", f"loss: {gate.description.loss}"]
    notes += report.describe_environments(gate.run.recording) if gate.is_measured else []
    notes += [f"baseline: {gate.baseline_note}"] if gate.baseline_note else []
    notes += [f"left out: {scheme}, which needs {need}" for scheme, need in gate.left_out.items()]
    notes += [f"note: {note}" for note in gate.input_notes]
    conclusion = "interrupted: no conclusion" if gate.exit_code is None else report.conclusion(verdicts)
    if gate.exit_code not in (None, worst(verdicts).exit_code):
        conclusion += f"; but a benchmark failed (exit code {gate.exit_code})"
    limits = "benchmarks/limits.toml" if gate.limits_file == DEFAULT_LIMITS else gate.limits_file
    terminalreporter.section(f"the gate, with the limits of {limits}")
    for text in (*map(show, notes), "", *report.verdict_lines(verdicts), "", conclusion):
        line(text)
    today = datetime.now(UTC).date().isoformat()
    if rows := proposed_limits(verdicts, gate.limits, gate.machine, today, _command(config)):
        proposal = config.rootpath / ".benchmarks" / DEFAULT_LIMITS.name
        proposal.parent.mkdir(exist_ok=True)
        with atomic_write(proposal) as path:
            path.write_text(rows, encoding="utf-8")
        line(f"\nTo accept these figures, use these rows as limits (also in {proposal}):\n\n{rows}")
    if (summary := os.environ.get("GITHUB_STEP_SUMMARY")) and gate.exit_code is not None:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write("\n".join([*report.verdict_markdown(verdicts, notes), "", conclusion]) + "\n")
    if (plot := config.getoption("--gate-plot")) and gate.is_measured:
        report.plot_run(gate.run, verdicts, plot)
        line(f"plotted: {plot}")


def _command(config: pytest.Config) -> str:
    """Return the command line without passwords in URLs."""
    return re.sub(r"//[^/@ ]+@", "//***@", " ".join(["pytest", *map(str, config.invocation_params.args)]))


def _concluding_gate(config: pytest.Config) -> Gate | None:
    """Return the gate if this process concludes the session; a worker of pytest-xdist does not."""
    concludes = not config.option.collectonly and not hasattr(config, "workerinput")
    return config.stash.get(GATE, None) if concludes else None
