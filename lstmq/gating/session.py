"""One gated session, from the options to the exit code: :class:`Gate`."""

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from lstmq.comparison import describe_machine
from lstmq.errors import InputNote
from lstmq.figures import check_figure_path
from lstmq.gate import (
    ConfidenceInterval,
    Environment,
    Figure,
    Outcome,
    Plan,
    Recording,
    Run,
    Sample,
    Verdict,
    cap_loss,
    choose_pace,
    conditions,
    describe_workload,
    judge_other_case,
    judge_other_cases,
    judge_run,
    judge_scheme,
    judge_session,
    load_limits,
    measure,
    not_measured,
    time_in_turn,
    undecided_figures,
    word_schemes,
    worst,
)
from lstmq.gate.limits import OTHER_CASES
from lstmq.gate.loops import Round
from lstmq.gating.planning import (
    choose_schemes,
    exempt_metrics,
    find_limits,
    find_other_environment,
    make_plan,
    share_error,
)
from lstmq.gating.saving import check_saving, find_baseline
from lstmq.progress import progress
from lstmq.quantization import check_engine
from lstmq.workload import DEFAULT_TOKENS, load_workload


class Gate:
    """One session. It is measured when a benchmark first asks for it.

    Attributes:
        workload: what the session measures.
        plan: how.
        machine: what every benchmark notes in its ``extra_info``.
        source: where the limits come from.
        limits: the limits.
        measures_itself: whether the cases for lstmq itself count: not for a user's model or text, nor if the question
            is about another environment.
        description: the workload, in words.
        retry_notes: why it was measured again, once for each time.
        input_notes: what loading it noticed, such as a byte order mark.
        left_out: what a default scheme needs and this environment lacks, by scheme.
        baseline_note: which saved run is the baseline, or why there is none; empty if nobody asked for one.
        cases: schemes whose benchmark finished.
        others: figures of the benchmarks that do not measure a scheme.
        failures: names of the benchmarks that failed without a figure.
        error: why the session broke off, if it did.
        exit_code: the exit code, once the session is concluded.
    """

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        """Load everything that the options name, so that a wrong option is an error before the first benchmark.

        Args:
            config: with the options.
            folder: of the tests.

        Raises:
            ValueError: in one line; or ``OSError``, ``RuntimeError``, ``MemoryError`` from reading files.
        """
        option = config.getoption
        if not config.pluginmanager.hasplugin("benchmark"):
            raise ValueError("the gate needs pytest-benchmark: pip install 'lstmq[gate]'")
        check_saving(config)
        for name in ("--gate-threads", "--gate-bptt", "--gate-blocks", "--gate-slices"):
            if option(name) is not None and option(name) < 1:
                raise ValueError(f"{name} must be at least 1, found {option(name)}")
        if option("--gate-retries") < 0:
            raise ValueError(f"--gate-retries must be at least 0, found {option('--gate-retries')}")
        torch.set_num_threads(option("--gate-threads"))
        check_engine(option("--gate-engine"))
        if option("--gate-plot"):
            check_figure_path(option("--gate-plot"))
        self.source = find_limits(config, folder)
        self.limits = load_limits(self.source.path)
        files = (option("--gate-corpus"), option("--gate-checkpoint"), option("--gate-vocabulary"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InputNote)
            self.workload = load_workload(
                *files, option("--gate-tokens"), DEFAULT_TOKENS, self.source.workload, option("--gate-keep") or ()
            )
        self.input_notes = [str(warning.message) for warning in caught if issubclass(warning.category, InputNote)]
        for warning in caught:
            if not issubclass(warning.category, InputNote):
                warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
        self.measures_itself = not any((*files, self.source.workload, option("--gate-against")))
        if not self.measures_itself:
            self.limits = {case: rows for case, rows in self.limits.items() if case not in OTHER_CASES}
        against = option("--gate-against")
        schemes, self.left_out = choose_schemes(
            option("--gate-scheme"), self.source, self.limits, self.workload, against is not None
        )
        there = find_other_environment(config, self.workload)
        self._environments = [Environment.here(), *([there] if there else [])]
        pace = choose_pace(self.workload, option("--gate-bptt"))
        self.workload = cap_loss(self.workload, pace.loss_steps)
        self.plan = make_plan(config, schemes, pace)
        self.machine = describe_machine(option("--gate-engine"))
        self.plan = replace(self.plan, words=word_schemes(self.limits, schemes, self.machine.isa))
        self.description = describe_workload(self.workload)
        self._exempt = exempt_metrics(self.source, self.workload)
        now = conditions(self.machine, self.description, self.plan)
        self._baseline, self.baseline_note = find_baseline(config, now, self.plan.schemes)
        questions = 1 + (against is not None) + (self._baseline is not None)
        figures = questions * len(schemes) + len(self.plan.words) + self.measures_itself * len(OTHER_CASES)
        self.plan = share_error(self.plan, figures)
        self._retries = option("--gate-retries")
        self._recording: Recording | None = None
        self.retry_notes: list[str] = []
        self.cases: list[str] = []
        self.others: dict[str, dict[str, ConfidenceInterval]] = {}
        self.failures: list[str] = []
        self.error = ""
        self.exit_code: int | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the session was measured."""
        return self._recording is not None

    @property
    def run(self) -> Run:
        """The run. It is measured now, if it is not yet; and again if it is undecided and may be retried."""
        if self._recording is None:
            recording = self._measure(self.plan)
            for retry in range(1, self._retries + 1):
                if not (outcome := self._doubt(recording)):
                    break
                self.retry_notes.append(f"measured again: {outcome} ({retry} of {self._retries} retries)")
                recording = self._measure(replace(self.plan, seed=self.plan.seed + retry))
            self._recording = recording
        return self._make_run(self._recording)

    def _measure(self, plan: Plan) -> Recording:
        # The bar shows the way to the first look, after which most sessions end.
        with progress("timing", plan.looks[0]) as advance:
            return measure(
                self.workload,
                plan,
                self._environments,
                lambda recording: undecided_figures(self._make_run(recording), self._baseline),
                lambda where: advance(1, where),
            )

    def _doubt(self, recording: Recording) -> Outcome | None:
        """Return the outcome that a retry may change: inconclusive or invalid."""
        run = self._make_run(recording)
        schemes = [scheme for scheme in run.recording.plan.schemes if scheme not in run.recording.here.absent]
        verdicts = [*judge_session(run)]
        for scheme in schemes:
            verdicts += judge_scheme(run, scheme, self._baseline)
        outcome = worst(verdicts)
        return outcome if outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID) else None

    def _make_run(self, recording: Recording) -> Run:
        """Return a recording with what it is judged by."""
        return Run(
            recording=recording,
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

    def judge_case(self, case: str, figures: dict[str, Figure]) -> list[Verdict]:
        """Judge a benchmark that does not measure a scheme."""
        verdicts = judge_other_case(case, figures, self.limits, self.machine.isa)
        self.others[case] = {verdict.metric: verdict.figure for verdict in verdicts if verdict.figure}
        return verdicts

    def time_case(
        self, case: str, metric: str, target: Round, reference: Round, **timing: Any
    ) -> tuple[list[float], Sample]:
        """Time two functions in turn, until the looks settle whether their ratio is within the limit of the case."""

        def is_settled(interval: ConfidenceInterval) -> bool:
            verdicts = judge_other_case(case, {metric: interval}, self.limits, self.machine.isa)
            return verdicts[0].outcome is not Outcome.INCONCLUSIVE

        for retry in range(self._retries + 1):
            if retry:
                self.retry_notes.append(f"measured {case} again: INCONCLUSIVE ({retry} of {self._retries} retries)")
            seconds, sample = time_in_turn(
                target, reference, looks=self.plan.planned_looks, is_settled=is_settled, **timing
            )
            if is_settled([*sample.intervals()][-1]):
                break
        return seconds, sample

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts on everything. Without a session, no scheme was measured."""
        if self.is_measured:
            return judge_run(self.run, self._baseline)
        reason = self.error or "no benchmark of it ran"
        missing = [not_measured(scheme, "all", reason) for scheme in self.plan.schemes]
        return missing + judge_other_cases(self.others, self.failures, self.limits, self.machine.isa)

    def conclude(self, failed: bool) -> int:
        """Set the exit code. It is never 0 if a benchmark ``failed``."""
        self.exit_code = worst(self.verdicts()).exit_code or int(failed)
        return self.exit_code
