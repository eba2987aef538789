"""The glue between :mod:`gating`, which measures and judges, and pytest with pytest-benchmark: fixtures and hooks."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.storage.file import FileStorage

from gating import TUTORIALS, Gate, add_options
from lstmq import Workload
from lstmq.comparison.paired import clock
from lstmq.errors import one_line
from lstmq.files import atomic_write
from lstmq.gate import judge, run_file, runs
from lstmq.gate.processes import HERE
from lstmq.gate.proposals import proposed_limits
from lstmq.gate.session import Plan
from lstmq.gate.statistics import ConfidenceInterval, median_interval
from lstmq.gate.verdicts import Outcome, Verdict, worst
from lstmq.report import session_plot, tables
from lstmq.text.streams import Stream

WARM_UP = 2  # pairs that do not count
TOLD = [0.0]  # seconds that workers have told pytest-benchmark, one sum after the other
GATE = pytest.StashKey[Gate]()
Read = Callable[[Stream], object]


class NotPassed(pytest.fail.Exception):
    """A verdict that is not a pass, as opposed to any other failure."""

    __module__ = "builtins"  # as pytest's own, so that its summary begins with the verdict


# What cases ask for.


@pytest.fixture(scope="session")
def workload(pytestconfig: pytest.Config) -> Workload:
    return pytestconfig.stash[GATE].workload


@pytest.fixture(scope="session")
def facts(pytestconfig: pytest.Config) -> dict[str, object]:
    """What every case notes in its ``extra_info``: the machine, torch, the engine, the threads, the window."""
    return pytestconfig.stash[GATE].facts


@pytest.fixture
def timed(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Callable[[str], runs.Run]:
    """Give ``timed("int8")``: the session's run, whose seconds of that model are then the benchmark's.

    The workers have timed them, in turn with all other models'; here pytest-benchmark is only told.
    """

    def timed(model: str) -> runs.Run:
        if benchmark.disabled:
            raise NotPassed("not measured: benchmarks are disabled", pytrace=False)
        this = request.config.stash[GATE]
        try:
            with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                run = this.run
        except (ValueError, OSError, RuntimeError) as error:  # of the session, or of handing a model over to it
            this.broken = request.session.shouldfail = one_line(error)  # nothing is begun after this case
            raise NotPassed(this.broken, pytrace=False) from None
        if model in (absent := run.recording.environments[HERE]["absent"]):
            pytest.skip(f"not measured: {absent[model]}")  # which is the gate's verdict, too, and no pass
        told = [t for worker in run.recording.seconds[HERE][model] for t in worker if t is not None]
        seconds = iter(told)
        benchmark.pedantic(lambda: TOLD.append(TOLD[-1] + next(seconds)), rounds=len(told))
        benchmark.extra_info["tokens"] = Plan.tokens * run.recording.plan["columns"]
        return run

    return timed


@pytest.fixture
def measure_ratio(benchmark: BenchmarkFixture, workload: Workload) -> Callable[..., ConfidenceInterval]:
    """Give ``measure_ratio(reference, target)``: the reference's seconds over the target's, slice by slice.

    pytest-benchmark times the target; the reference reads the same slice just before, in the round's untimed set-up.
    """

    def measure_ratio(reference: Read, target: Read, pairs: int) -> ConfidenceInterval:
        now, seconds = clock(), []
        stream, tokens = workload.speed.stream, Plan.tokens
        starts = cycle(range(0, len(stream) - tokens + 1, tokens))  # consecutive, and again from the first

        def read_reference() -> tuple[tuple[Stream], dict[str, object]]:
            part = stream.slice(next(starts), tokens)
            start = now()
            reference(part)
            seconds.append(now() - start)
            return (part,), {}

        benchmark.pedantic(target, setup=read_reference, rounds=pairs, warmup_rounds=WARM_UP)
        if benchmark.disabled:
            raise NotPassed("not measured: benchmarks are disabled", pytrace=False)
        benchmark.extra_info["tokens"] = tokens
        pairs_of_seconds = zip(seconds[WARM_UP:], benchmark.stats.stats.data, strict=True)
        return median_interval([a / b for a, b in pairs_of_seconds])

    return measure_ratio


@pytest.fixture
def judge_session(pytestconfig: pytest.Config) -> Callable[[], list[Verdict]]:
    """Give ``judge_session()``: the verdicts on this machine, which fail a case if nothing can be judged here."""
    return lambda: _passed(judge.judge_session(pytestconfig.stash[GATE].run))


@pytest.fixture
def judge_scheme(pytestconfig: pytest.Config) -> Callable[[str], list[Verdict]]:
    """Give ``judge_scheme("int8")``: it fails a case for every verdict but a pass."""
    return lambda scheme: _passed(pytestconfig.stash[GATE].judge_scheme(scheme))


@pytest.fixture
def judge(pytestconfig: pytest.Config) -> Callable[..., list[Verdict]]:
    """Give ``judge("train", overhead=interval)``: it fails a case with every figure past its row of the floors."""

    def judge(case: str, **figures: ConfidenceInterval) -> list[Verdict]:
        told = {metric: asdict(figure) for metric, figure in figures.items()}
        return _passed(pytestconfig.stash[GATE].judge_other(case, told))

    return judge


def _passed(verdicts: list[Verdict]) -> list[Verdict]:
    """Return them, unless one is not a pass."""
    if bad := [str(each) for each in verdicts if each.outcome not in (Outcome.PASS, Outcome.UNJUDGED)]:
        raise NotPassed("; ".join(bad), pytrace=False)
    return verdicts


# From the options to the last line.


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser.getgroup("lstmq"))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what pytest-benchmark, which looks for saved runs right after this, would break off at."""
    compare = config.getoption("benchmark_compare")
    path = Path(compare) if isinstance(compare, str) else Path()
    if (len(path.parts) > 2 or path.is_absolute()) and not path.is_file():
        raise pytest.UsageError(f"--benchmark-compare: no such file: {compare}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Load all that options name before any case, so that a wrong one is one line and pytest's usage error."""
    try:
        session.config.stash[GATE] = Gate(session.config)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        raise pytest.UsageError(one_line(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a case of every scheme that is gated."""
    if "scheme" in metafunc.fixturenames:
        metafunc.parametrize("scheme", metafunc.config.stash[GATE].plan.schemes)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pytest-benchmark's clock be what workers tell, in the cases that are of their times.

    The others measure this package by its own model: they have nothing to say of another workload.
    """
    for item in items:
        if "timed" in item.fixturenames:
            group = f"evaluate {Plan.tokens} tokens"
            item.add_marker(pytest.mark.benchmark(group=group, timer=lambda: TOLD[-1]), append=False)
        elif item.config.getoption("--workload"):
            item.add_marker(pytest.mark.skip(reason="not of this workload"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note a failure that is no verdict; that of a scheme's case is one: it was not measured."""
    failed = call.excinfo and not call.excinfo.errisinstance((NotPassed, pytest.skip.Exception))
    if failed and ("judge_scheme" not in item.fixturenames or call.when == "teardown"):
        item.config.stash[GATE].failures.append(item.nodeid)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Set the exit code before pytest-benchmark saves the run; what was cut short, or timed nothing, is not saved."""
    if this := _gate_of(session.config):
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        if ended:
            session.exitstatus = this.conclude(failed=exitstatus == pytest.ExitCode.TESTS_FAILED)
        if not ended or not this.measured:
            saving = session.config._benchmarksession
            saving.save = saving.autosave = saving.json = None
    return (yield)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, object]) -> None:
    """Put the raw times and the verdicts into what pytest-benchmark saves."""
    this = config.stash[GATE]
    if not isinstance(config._benchmarksession.storage, FileStorage):
        # Elasticsearch's reads only times without a zone, and writes them with one.
        output_json["datetime"] = str(output_json["datetime"]).removesuffix("+00:00")
    if this.measured:
        verdicts = this.verdicts()
        run = replace(this.run, outcome=worst(verdicts).value)
        output_json[run_file.KEY] = run_file.as_json(run, [asdict(verdict) for verdict in verdicts])


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's tables
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the verdicts, the rows that would replace floors, and what all ends with."""
    if not (this := _gate_of(config)):
        return
    verdicts, line = this.verdicts(), terminalreporter.line
    notes = [f"speed and size: {this.described['speed']}", f"loss: {this.described['loss']}"]
    notes += tables.describe_environments(this.run.recording) if this.measured else []
    notes += [f"baseline: {this.which}"] if this.which else []
    notes += [f"left out: {scheme}, which needs {need}" for scheme, need in this.left_out.items()]
    conclusion = "cut short: nothing is concluded" if this.code is None else tables.conclusion(verdicts)
    if this.code not in (None, worst(verdicts).exit_code):
        conclusion += f"; but a case failed (exit code {this.code})"
    limits = "benchmarks/limits.toml" if this.limits == TUTORIALS else this.limits
    terminalreporter.section(f"the gate, against {limits}")
    for each in (*notes, "", *tables.verdict_lines(verdicts), "", conclusion):
        line(each)
    command = re.sub(r"//[^/@ ]+@", "//***@", " ".join(["pytest", *map(str, config.invocation_params.args)]))
    if rows := proposed_limits(verdicts, this.floors, this.facts, datetime.now(UTC).date().isoformat(), command):
        proposal = config.rootpath / ".benchmarks" / TUTORIALS.name
        proposal.parent.mkdir(exist_ok=True)
        with atomic_write(proposal) as path:
            path.write_text(rows, encoding="utf-8")
        line(f"\nIf it is to stay so, these rows (also in {proposal}) replace the floors':\n\n{rows}")
    if (summary := os.environ.get("GITHUB_STEP_SUMMARY")) and this.code is not None:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write("\n".join([*tables.verdict_markdown(verdicts, notes), "", conclusion]) + "\n")
    if config.getoption("--gate-plot") and this.measured:
        session_plot.plot_run(this.run, verdicts, config.getoption("--gate-plot"))
        line(f"drawn: {config.getoption('--gate-plot')}")


def _gate_of(config: pytest.Config) -> Gate | None:
    """Return the session's gate, if this process is one to conclude; one of xdist's is not."""
    concludes = not config.option.collectonly and not hasattr(config, "workerinput")
    return config.stash.get(GATE, None) if concludes else None
