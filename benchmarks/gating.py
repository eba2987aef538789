"""One gated session, from the options to the exit code: :class:`Gate`."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from pytest_benchmark.storage.file import FileStorage

from lstmq import SCHEMES, ModelConfig
from lstmq.comparison import describe_machine
from lstmq.figures import check_figure_path
from lstmq.gate import (
    MIN_SAMPLES,
    QUANTIZED_PER_SLICE,
    ConfidenceInterval,
    Environment,
    Plan,
    Recording,
    Run,
    Verdict,
    conditions,
    describe_workload,
    judge_other_case,
    judge_other_cases,
    judge_run,
    judge_scheme,
    load_limits,
    measure,
    not_measured,
    read_run,
    select_baseline,
    worst,
)
from lstmq.progress import progress
from lstmq.quantization import check_engine, select_schemes
from lstmq.workload import DEFAULT_TOKENS, load_workload

DEFAULT_LIMITS = Path(__file__).with_name("limits.toml")  # for the tutorial's shape


class Gate:
    """One session. It is measured when a benchmark first asks for it.

    Attributes:
        workload: what the session measures.
        plan: how.
        machine: what every benchmark notes in its ``extra_info``.
        limits_file: where the limits come from.
        limits: the limits.
        description: the workload, in words.
        left_out: what a default scheme needs and this environment lacks, by scheme.
        baseline_note: which saved run is the baseline, or why there is none; empty if nobody asked for one.
        cases: schemes whose benchmark finished.
        others: figures of the benchmarks that do not measure a scheme.
        failures: names of the benchmarks that failed without a figure.
        error: why the session broke off, if it did.
        exit_code: the exit code, once the session is concluded.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Load everything that the options name, so that a wrong option is an error before the first benchmark.

        Raises:
            ValueError: in one line; or ``OSError``, ``RuntimeError``, ``MemoryError`` from reading files.
        """
        option = config.getoption
        for name in ("--gate-threads", "--gate-bptt", "--gate-workers", "--gate-slices"):
            if option(name) < 1:
                raise ValueError(f"{name} must be at least 1, found {option(name)}")
        if option("--gate-workers") < MIN_SAMPLES > option("--gate-slices"):
            raise ValueError(f"a 99 % interval needs at least {MIN_SAMPLES} --gate-workers or --gate-slices")
        torch.set_num_threads(option("--gate-threads"))
        check_engine(option("--gate-engine"))
        if option("--gate-plot"):
            check_figure_path(option("--gate-plot"))
        files = (option("--gate-corpus"), option("--gate-checkpoint"), option("--gate-vocabulary"))
        self.workload = load_workload(*files, option("--gate-tokens"), DEFAULT_TOKENS, option("--gate-workload"))
        if (steps := len(self.workload.speed.stream)) < Plan.tokens:
            raise ValueError(f"expected a stream of at least {Plan.tokens} steps, found {steps}")
        self.limits_file = self._find_limits(option("--gate-limits"))
        self.limits = load_limits(self.limits_file)
        against = option("--gate-against")
        schemes, self.left_out = self._select(option("--gate-scheme"), against is not None)
        self._environments = [Environment.here()]
        if against:
            if not shutil.which(against):
                raise ValueError(f"--gate-against: expected a Python, found nothing to run at {against}")
            self._environments.append(Environment.there(against))
        self.plan = Plan(
            schemes=schemes,
            workers=option("--gate-workers"),
            slices=option("--gate-slices"),
            quantized_slices=QUANTIZED_PER_SLICE * option("--gate-slices") if against else 0,
            bptt=option("--gate-bptt"),
            threads=option("--gate-threads"),
            engine=option("--gate-engine"),
            seed=option("--gate-seed"),
        )
        self.machine = describe_machine(option("--gate-engine"))
        self.description = describe_workload(self.workload)
        self._exempt = self._exempt_metrics(own_text=option("--gate-corpus") is not None)
        self._baseline, self.baseline_note = self._find_baseline(config)
        self._recording: Recording | None = None
        self.cases: list[str] = []
        self.others: dict[str, dict[str, ConfidenceInterval]] = {}
        self.failures: list[str] = []
        self.error = ""
        self.exit_code: int | None = None

    def _find_limits(self, named: Path | None) -> Path:
        """Return the file of limits: the named one, the one beside a user's workload, or the default."""
        if named or not self.workload.made_by:
            return named or DEFAULT_LIMITS
        beside = Path(self.workload.made_by.rpartition(":")[0]).with_name(DEFAULT_LIMITS.name)
        if not beside.is_file():
            raise ValueError(f"your own workload needs its own limits: --gate-limits FILE, or {beside}")
        return beside

    def _select(self, named: list[str] | None, against: bool) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the schemes to gate, and what each scheme left out needs."""
        limited = [scheme for scheme in SCHEMES if scheme in self.limits]
        if not named and self.limits_file != DEFAULT_LIMITS:
            named = limited
        # Schemes for LSTMModels only are compared with another environment only if the user names them.
        known = [name for name in limited if not (against and SCHEMES[name].language_models_only)]
        schemes, left_out = select_schemes(named or [], self.workload.speed.model, known)
        if not schemes:
            raise ValueError(f"{self.limits_file}: expected limits for a scheme, {', '.join(SCHEMES)}, found none")
        return schemes, left_out

    def _exempt_metrics(self, own_text: bool) -> list[str]:
        """Return the metrics that the default limits do not apply to: for another shape, or another text."""
        if self.limits_file != DEFAULT_LIMITS:
            return []
        config: ModelConfig = self.workload.speed.model.config
        other_shape = replace(config, dropout=0) != replace(ModelConfig(), dropout=0)
        by_shape = ["overhead", "size_ratio", "speedup"] if other_shape else []
        return (["bytes_per_token"] if own_text else []) + by_shape

    def _find_baseline(self, config: pytest.Config) -> tuple[Run | None, str]:
        """Select the baseline among the saved runs that ``--benchmark-compare`` names.

        pytest-benchmark skips files that it cannot read. Here, a file that was asked for has to be there, and whole.
        """
        required, compare = config.getoption("--gate-baseline") == "require", config.getoption("benchmark_compare")
        if not compare:
            if required:
                raise ValueError("--gate-baseline=require needs --benchmark-compare")
            return None, ""
        storage = config._benchmarksession.storage
        if not isinstance(storage, FileStorage):
            raise ValueError(
                "--benchmark-compare reads saved runs from files: expected a --benchmark-storage of file://"
            )
        paths = storage.query("[0-9][0-9][0-9][0-9]_" if compare is True else compare)
        runs = map(read_run, reversed(paths))
        now = conditions(self.machine, self.description, self.plan)
        return select_baseline(runs, now, self.plan.schemes, named=compare is not True, required=required)

    @property
    def is_measured(self) -> bool:
        """Whether the session was measured."""
        return self._recording is not None

    @property
    def run(self) -> Run:
        """The run. It is measured now, if it is not yet."""
        if self._recording is None:
            total = self.plan.workers * (self.plan.slices + self.plan.quantized_slices)
            with progress("timing", total) as advance:
                self._recording = measure(self.workload, self.plan, self._environments, lambda where: advance(1, where))
        return Run(
            recording=self._recording,
            workload=self.description,
            limits=self.limits,
            exempt=self._exempt,
            cases=list(self.cases),
            others=self.others,
            failures=list(self.failures),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def judge_scheme(self, scheme: str) -> list[Verdict]:
        """Judge a scheme whose benchmark finished."""
        self.cases.append(scheme)
        return judge_scheme(self.run, scheme, self._baseline)

    def judge_case(self, case: str, figures: dict[str, ConfidenceInterval]) -> list[Verdict]:
        """Judge a benchmark that does not measure a scheme."""
        self.others[case] = figures
        return judge_other_case(case, figures, self.limits, self.machine.isa, self._exempt)

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts on everything. Without a session, no scheme was measured."""
        if self.is_measured:
            return judge_run(self.run, self._baseline)
        reason = self.error or "no benchmark of it ran"
        missing = [not_measured(scheme, "all", reason) for scheme in self.plan.schemes]
        return missing + judge_other_cases(self.others, self.failures, self.limits, self.machine.isa, self._exempt)

    def conclude(self, failed: bool) -> int:
        """Set the exit code. It is never 0 if a benchmark ``failed``."""
        self.exit_code = worst(self.verdicts()).exit_code or int(failed)
        return self.exit_code
