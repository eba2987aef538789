"""What the cases share: the options, the workload, the session of workers, and the judgement by :mod:`lstmq.gate`."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import chain, cycle
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.storage.file import FileStorage
from torch import Tensor

from lstmq import SCHEMES, ModelConfig, gate, plots, report, runs
from lstmq.cli.common import progress
from lstmq.comparison import clock
from lstmq.curves import check_plot
from lstmq.environments import HERE, Environment, SessionError
from lstmq.files import whole_file
from lstmq.floors import Floors, load_floors
from lstmq.intervals import ENOUGH, Interval, median_interval
from lstmq.machine import describe_machine
from lstmq.quantization import FLOAT32, check_engine
from lstmq.session import Plan, Recording, measure
from lstmq.verdicts import Outcome, Verdict, worst
from lstmq.workload import DEFAULT_TOKENS, Workload, load_workload

SLICE = 100  # tokens: long enough to time, short enough that all models meet the same machine
WARM_UP = 2  # pairs that do not count
MORE = 15  # times as many slices, quantized only, against another environment: int8 against int8 is the tight question
OTHER_CASES = [FLOAT32, "evaluate", "train", "corpus"]
TUTORIALS = Path(__file__).with_name("floors.toml")  # limits of the tutorial's shape
Read = Callable[[Tensor], object]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lstmq")
    group.addoption(
        "--corpus", type=Path, help="folder of text, or wikitext-2 once fetched (default: the embedded sample)"
    )
    group.addoption("--checkpoint", type=Path, help="trained model, .pth or .safetensors (default: the sample's)")
    group.addoption("--vocabulary", type=Path, help="corpus folder of the checkpoint's words, if not --corpus")
    group.addoption("--tokens", type=int, help=f"length of the test text (default: {DEFAULT_TOKENS} at most)")
    group.addoption("--bptt", type=int, default=25, help="longest window, in tokens (default: %(default)s)")
    group.addoption("--threads", type=int, default=1, help="threads that torch computes on (default: %(default)s)")
    group.addoption("--engine", help="torch's int8 backend (default: torch's own)")
    group.addoption(
        "--scheme", action="append", choices=[*SCHEMES], help="gate this one; may be repeated (default: all)"
    )
    group.addoption("--floors", type=Path, help="limits for a shape of your own (default: floors.toml, the tutorial's)")
    group.addoption(
        "--pairs",
        type=int,
        default=Plan.pairs,
        help=f"slices that each process reads in every model; with --gate-against, {MORE} times as many more in the "
        "quantized (default: %(default)s)",
    )
    group.addoption("--workers", type=int, default=Plan.workers, help="fresh processes (default: %(default)s)")
    group.addoption("--order", type=int, default=0, metavar="SEED", help="seed of the order of slices and models")
    group.addoption(
        "--gate-against", metavar="PYTHON", help="another environment's interpreter: is int8 slower here than there?"
    )
    group.addoption(
        "--gate-baseline",
        choices=["auto", "require"],
        default="auto",
        help="if --benchmark-compare finds no run to compare with: judge by floors alone, or refuse",
    )
    group.addoption("--gate-plot", type=Path, metavar="FILE", help="draw ratios and intervals, .png or .svg")


class Gate:
    """One session of workers, measured when first asked for, and what became of it."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        for name in ("--threads", "--bptt", "--workers", "--pairs"):
            if option(name) < 1:
                raise ValueError(f"{name} must be at least 1, found {option(name)}")
        if option("--workers") < ENOUGH > option("--pairs"):
            raise ValueError(f"no interval of 99 % without {ENOUGH} --workers, or {ENOUGH} --pairs in each")
        torch.set_num_threads(option("--threads"))
        check_engine(option("--engine"))
        if option("--gate-plot"):
            check_plot(option("--gate-plot"))
        self.floors: Floors = load_floors(option("--floors") or TUTORIALS)
        if unknown := self.floors.keys() - {*SCHEMES, *OTHER_CASES}:
            there = ", ".join([*SCHEMES, *OTHER_CASES])
            raise ValueError(f"{option('--floors')}: no such case: {', '.join(unknown)}; there are {there}")
        files = (option("--corpus"), option("--checkpoint"), option("--vocabulary"))
        self.workload = load_workload(*files, option("--tokens"), at_most=DEFAULT_TOKENS)
        if (tokens := len(self.workload.speed.source)) <= SLICE:
            raise ValueError(f"expected more than {SLICE} tokens of test text to time slices of, found {tokens}")
        self.environments = [Environment.here()]
        if against := option("--gate-against"):
            if not shutil.which(against):
                raise ValueError(f"--gate-against: expected an interpreter, found nothing to run at {against}")
            self.environments.append(Environment.there(against))
        pairs = option("--pairs")
        self.plan = Plan(
            schemes=tuple(dict.fromkeys(option("--scheme") or SCHEMES)),
            workers=option("--workers"),
            pairs=pairs,
            more=MORE * pairs if against else 0,
            tokens=SLICE,
            bptt=option("--bptt"),
            threads=option("--threads"),
            engine=option("--engine"),
            seed=option("--order"),
        )
        self.facts = describe_machine(option("--engine")) | {"bptt": option("--bptt")}
        self.described = runs.describe_workload(self.workload)
        self.exempt = self._exempt(own=option("--floors") is not None, text=option("--corpus") is not None)
        self.baseline: runs.Run | None = None
        self.without_baseline = ""
        self.recording: Recording | None = None
        self.cases: list[str] = []
        self.others: dict[str, dict[str, dict[str, float]]] = {}  # figures of the cases that are no scheme's
        self.failed_otherwise = False
        self.code: int | None = None  # what the session ends with, if it was not cut short

    def _exempt(self, own: bool, text: bool) -> set[str]:
        """Return the metrics that the floors are not for: unless they are one's own, they are the tutorial's."""
        another_shape = replace(self.workload.speed.model.config, dropout=0) != replace(ModelConfig(), dropout=0)
        exempt = {"bytes_per_token"} if text and not own else set()
        return exempt | ({"speedup", "size_ratio", "overhead"} if another_shape and not own else set())

    @property
    def run(self) -> runs.Run:
        """Measure, if that is not done yet."""
        if self.recording is None:
            total = self.plan.workers * (self.plan.pairs + self.plan.more)
            with progress("timing", total) as advance:
                self.recording = measure(self.workload, self.plan, self.environments, lambda where: advance(1, where))
        return runs.Run(
            recording=self.recording,
            workload=self.described,
            floors=self.floors,
            exempt=sorted(self.exempt),
            cases=list(self.cases),
            others=self.others,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def all_verdicts(self) -> list[Verdict]:
        """Judge what was measured; if nothing was, no scheme was."""
        if self.recording is None:
            missing = [gate.not_measured(scheme, "all", "no benchmark of it ran") for scheme in self.plan.schemes]
            others = (
                gate.judge_other(case, figures, self.floors, self.facts["isa"], self.exempt)
                for case, figures in self.others.items()
            )
            return [*missing, *chain.from_iterable(others)]
        return gate.judge(self.run, self.baseline)


class NotPassed(pytest.fail.Exception):
    """A verdict that is not a pass, as opposed to any other failure."""

    __module__ = "builtins"  # as pytest's own, so that its summary begins with the verdict


TOLD = [0.0]  # seconds that workers have told pytest-benchmark, one sum after the other
GATE = pytest.StashKey[Gate]()
BASELINES = pytest.StashKey[list[dict[str, object]]]()


def pytest_benchmark_compare_machine_info(config: pytest.Config, compared_benchmark: dict[str, object]) -> None:
    """Hear which runs ``--benchmark-compare`` found, for storages that are no files."""
    config.stash.setdefault(BASELINES, []).append(compared_benchmark)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pytest-benchmark's clock be what workers tell, in the cases that are of their times."""
    for item in items:
        if "timed" in item.fixturenames:
            clock_told = pytest.mark.benchmark(group=f"evaluate {SLICE} tokens", timer=lambda: TOLD[-1])
            item.add_marker(clock_told, append=False)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Load all that options name before any case, so that a wrong one is one line and pytest's usage error."""
    config = session.config
    try:
        config.stash[GATE] = Gate(config)
        config.stash[GATE].baseline = _find_baseline(config)
    except (ValueError, OSError) as error:
        raise pytest.UsageError(str(error)) from None


def _find_baseline(config: pytest.Config) -> runs.Run | None:
    """Return the newest run that ``--benchmark-compare`` found, if it is one to compare with.

    pytest-benchmark passes over files that it cannot read; what was asked for is to be there, and whole.
    """
    this, compare = config.stash[GATE], config.getoption("benchmark_compare")
    required = config.getoption("--gate-baseline") == "require"
    if not compare:
        if required:
            raise ValueError("--gate-baseline=require needs --benchmark-compare")
        return None
    storage, baseline = config._benchmarksession.storage, None
    if isinstance(storage, FileStorage):
        if found := storage.query("[0-9][0-9][0-9][0-9]_" if compare is True else compare):
            baseline = runs.read(found[-1])
    elif documents := config.stash.get(BASELINES, []):
        baseline = runs.from_json(documents[-1], "the baseline")
    why = "no saved run was found"
    if baseline:
        now = runs.conditions(this.facts, this.described, asdict(this.plan))
        obstacles = gate.obstacles(now, baseline)
        if not obstacles:
            return baseline
        why = f"the baseline of {baseline.date} cannot be compared with: {'; '.join(obstacles)}"
    if required:
        raise ValueError(f"--gate-baseline=require: {why}")
    this.without_baseline = f"{why}: judged by floors alone"
    return None


@pytest.fixture(scope="session")
def workload(pytestconfig: pytest.Config) -> Workload:
    return pytestconfig.stash[GATE].workload


@pytest.fixture(scope="session")
def facts(pytestconfig: pytest.Config) -> dict[str, object]:
    """What every case notes in its ``extra_info``: the machine, torch, the engine, the threads, the window."""
    return pytestconfig.stash[GATE].facts


@pytest.fixture
def timed(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Callable[[str], runs.Run]:
    """Give ``timed("int8")``: the session's run, whose seconds of that model are then the benchmark's.

    The workers have timed them, in turn with all other models'; here pytest-benchmark is only told.
    """

    def timed(model: str) -> runs.Run:
        if benchmark.disabled:
            pytest.fail("not measured: benchmarks are disabled", pytrace=False)
        this = pytestconfig.stash[GATE]
        if model not in (FLOAT32, *this.plan.schemes):
            pytest.skip("not among the --scheme options")
        try:
            with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                run = this.run
        except (SessionError, OSError) as error:
            pytest.exit(str(error), returncode=Outcome.NOT_MEASURED.exit_code)
        told = [t for worker in run.recording.seconds[HERE].get(model, []) for t in worker if t is not None]
        if not told:
            pytest.fail(f"not measured: {run.recording.environments[HERE]['absent'][model]}", pytrace=False)
        seconds = iter(told)
        benchmark.pedantic(lambda: TOLD.append(TOLD[-1] + next(seconds)), rounds=len(told))
        benchmark.extra_info["tokens"] = SLICE
        return run

    return timed


@pytest.fixture
def judge_session(pytestconfig: pytest.Config) -> Callable[[], Verdict]:
    """Give ``judge_session()``: the verdict on this machine, which fails a case if nothing can be judged here."""

    def judge_session() -> Verdict:
        verdict = gate.judge_session(pytestconfig.stash[GATE].run)
        _fail_unless_passed([verdict])
        return verdict

    return judge_session


@pytest.fixture
def judge_scheme(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Give ``judge_scheme("int8")``: it fails a case for every verdict but a pass."""

    def judge_scheme(scheme: str) -> None:
        this = pytestconfig.stash[GATE]
        this.cases.append(scheme)
        _fail_unless_passed(gate.judge_scheme(this.run, scheme, this.baseline))

    return judge_scheme


@pytest.fixture
def judge(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Give ``judge("train", overhead=interval)``: it fails a case with every figure past its row of the floors."""

    def judge(case: str, **figures: Interval) -> None:
        this = pytestconfig.stash[GATE]
        this.others[case] = {metric: asdict(figure) for metric, figure in figures.items()}
        _fail_unless_passed(gate.judge_other(case, this.others[case], this.floors, this.facts["isa"], this.exempt))

    return judge


def _fail_unless_passed(verdicts: list[Verdict]) -> None:
    if bad := [str(each) for each in verdicts if each.outcome not in (Outcome.PASS, Outcome.UNJUDGED)]:
        raise NotPassed("; ".join(bad), pytrace=False)


@pytest.fixture
def measure_ratio(benchmark: BenchmarkFixture, workload: Workload) -> Callable[..., Interval]:
    """Give ``measure_ratio(reference, target)``: the reference's seconds over the target's, slice by slice.

    pytest-benchmark times the target; the reference reads the same slice just before, in the round's untimed set-up.
    """

    def measure_ratio(reference: Read, target: Read, pairs: int) -> Interval:
        now, seconds = clock(), []
        source = workload.speed.source
        starts = cycle(range(0, len(source) - SLICE, SLICE))  # consecutive, and again from the first

        def read_reference() -> tuple[tuple[Tensor], dict[str, object]]:
            first = next(starts)
            window = source[first : first + SLICE + 1]
            start = now()
            reference(window)
            seconds.append(now() - start)
            return (window,), {}

        benchmark.pedantic(target, setup=read_reference, rounds=pairs, warmup_rounds=WARM_UP)
        if benchmark.disabled:
            raise NotPassed("not measured: benchmarks are disabled", pytrace=False)
        benchmark.extra_info["tokens"] = SLICE
        pairs_of_seconds = zip(seconds[WARM_UP:], benchmark.stats.stats.data, strict=True)
        return median_interval([a / b for a, b in pairs_of_seconds])

    return measure_ratio


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, object]) -> None:
    """Put the raw times and the verdicts into what pytest-benchmark saves."""
    this = config.stash[GATE]
    if this.recording:
        output_json[runs.KEY] = runs.as_json(this.run, [asdict(verdict) for verdict in this.all_verdicts()])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note a failure that is no verdict; that of a scheme's case is one: it was not measured."""
    if call.excinfo and not call.excinfo.errisinstance((NotPassed, pytest.skip.Exception)):
        item.config.stash[GATE].failed_otherwise |= "timed" not in item.fixturenames
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Set the exit code before pytest-benchmark saves the run; what was cut short, or timed nothing, is not saved."""
    config = session.config
    this = config.stash.get(GATE, None)
    if this and not config.option.collectonly and not hasattr(config, "workerinput"):
        whole = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        if whole:
            outcome = worst(this.all_verdicts())
            failed = exitstatus == pytest.ExitCode.TESTS_FAILED
            this.code = session.exitstatus = 1 if this.failed_otherwise else outcome.exit_code or int(failed)
        if not whole or not this.recording:
            saving = config._benchmarksession
            saving.save = saving.autosave = saving.json = None
    return (yield)


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's tables
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    this = config.stash.get(GATE, None)
    if not this or config.option.collectonly or hasattr(config, "workerinput"):
        return
    verdicts = this.all_verdicts()
    terminalreporter.section(f"the gate, against {config.getoption('--floors') or 'benchmarks/floors.toml'}")
    notes = [f"speed and size: {this.described['speed']}", f"loss: {this.described['loss']}"]
    if this.recording:
        notes += report.environments(this.recording)
    notes += [this.without_baseline] if this.without_baseline else []
    notes += [f"baseline: the run of {this.baseline.date}"] if this.baseline else []
    conclusion = report.conclusion(verdicts)
    if this.code is None:
        conclusion = "cut short: nothing is concluded"
    elif this.code != worst(verdicts).exit_code:
        conclusion = f"a case failed that is no figure (exit code {this.code}); of the figures: {worst(verdicts)}"
    for line in (*notes, "", *report.verdict_lines(verdicts), "", conclusion):
        terminalreporter.line(line)
    command = " ".join(["pytest", *map(str, config.invocation_params.args)])
    if rows := gate.replacements(verdicts, this.floors, this.facts, datetime.now(UTC).date().isoformat(), command):
        proposal = config.rootpath / ".benchmarks" / "floors.toml"
        proposal.parent.mkdir(exist_ok=True)
        with whole_file(proposal) as path:
            path.write_text(rows, encoding="utf-8")
        terminalreporter.line(f"\nIf it is to stay so, these rows (also in {proposal}) replace the floors':\n\n{rows}")
    if (summary := os.environ.get("GITHUB_STEP_SUMMARY")) and this.code is not None:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write("\n".join([*report.verdict_markdown(verdicts, notes), "", conclusion]) + "\n")
    if config.getoption("--gate-plot") and this.recording:
        plots.plot_run(this.run, verdicts, config.getoption("--gate-plot"))
        terminalreporter.line(f"drawn: {config.getoption('--gate-plot')}")
