"""What a run of the benchmarks was asked for, and what became of it: :class:`Gate`, a session of workers, judged."""

import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from pytest_benchmark.storage.file import FileStorage
from torch import nn

from lstmq import SCHEMES, ModelConfig
from lstmq.progress import progress
from lstmq.comparison.machine import describe_machine
from lstmq.figures import check_figure_path
from lstmq.gate import baseline, judge, run_file, runs
from lstmq.gate.limits import Limits, load_limits
from lstmq.gate.processes import Environment
from lstmq.gate.session import QUANTIZED_PER_SLICE, Plan, Recording, measure
from lstmq.gate.statistics import MIN_SAMPLES
from lstmq.gate.verdicts import Verdict, not_measured, worst
from lstmq.quantization.schemes import ALL, select_schemes
from lstmq.quantization.torch_ao import check_engine
from lstmq.workload.loading import DEFAULT_TOKENS, load_workload

TUTORIALS = Path(__file__).with_name("limits.toml")  # limits of the tutorial's shape


def add_options(group: pytest.OptionGroup) -> None:
    """Add all that :class:`Gate` asks for."""
    group.addoption(
        "--corpus", type=Path, help="folder of text, or wikitext-2 once fetched (default: the embedded sample)"
    )
    group.addoption("--checkpoint", type=Path, help="trained model, .pth or .safetensors (default: the sample's)")
    group.addoption("--vocabulary", type=Path, help="corpus folder of the checkpoint's words, if not --corpus")
    group.addoption(
        "--workload",
        metavar="FILE.py:FUNCTION",
        help="a model of your own: what the function returns, held to the limits.toml beside the file",
    )
    group.addoption("--tokens", type=int, help=f"length of the test text (default: {DEFAULT_TOKENS} at most)")
    group.addoption("--bptt", type=int, default=25, help="longest window, in tokens (default: %(default)s)")
    group.addoption("--threads", type=int, default=1, help="threads that torch computes on (default: %(default)s)")
    group.addoption("--engine", help="torch's int8 backend (default: torch's own)")
    group.addoption(
        "--scheme",
        action="append",
        choices=[ALL, *SCHEMES],
        help="gate this one; may be repeated (default: those that are quickly made, or that --floors have rows of)",
    )
    group.addoption("--floors", type=Path, help="limits for a shape of your own (default: limits.toml, the tutorial's)")
    group.addoption(
        "--pairs",
        type=int,
        default=Plan.pairs,
        help=f"slices that each process reads in every model; with --gate-against, {QUANTIZED_PER_SLICE} times as many more in the "
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
    """One session of workers, measured when first asked for, and what became of it.

    Attributes:
        workload: what all cases read.
        plan: of the session.
        facts: what every case notes in its ``extra_info``: the machine, torch, the engine, the threads, the window.
        floors: the limits, and ``limits``, the file that they are from.
        described: the workload, in words.
        left_out: schemes that are gated where what they need is there, with what that is.
        which: in words, which saved run is compared with or why none is; empty if none was asked for.
        cases: schemes whose case ran to its end.
        others: figures of the cases that are no scheme's.
        failures: names of the cases that failed for no figure.
        broken: why the session of workers broke off, if it did.
        code: what all ends with, once it has and if it was not cut short.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Load all that options name, so that a wrong one is found before any case.

        Raises:
            ValueError: in one line; or ``OSError``, ``RuntimeError``, ``MemoryError`` from what reads or starts.
        """
        option = config.getoption
        for name in ("--threads", "--bptt", "--workers", "--pairs"):
            if option(name) < 1:
                raise ValueError(f"{name} must be at least 1, found {option(name)}")
        if option("--workers") < MIN_SAMPLES > option("--pairs"):
            raise ValueError(f"no interval of 99 % without {MIN_SAMPLES} --workers, or {MIN_SAMPLES} --pairs in each")
        torch.set_num_threads(option("--threads"))
        check_engine(option("--engine"))
        if option("--gate-plot"):
            check_figure_path(option("--gate-plot"))
        files = (option("--corpus"), option("--checkpoint"), option("--vocabulary"))
        self.workload = load_workload(*files, option("--tokens"), DEFAULT_TOKENS, option("--workload"))
        if (steps := len(self.workload.speed.stream)) < Plan.tokens:
            raise ValueError(f"expected at least {Plan.tokens} steps of a stream to time slices of, found {steps}")
        own: Path | None = option("--floors")
        if self.workload.made_by and own is None:
            own = Path(self.workload.made_by.rpartition(":")[0]).with_name(TUTORIALS.name)
            if not own.is_file():
                raise ValueError(f"a workload of your own needs limits of its own: --floors FILE, or {own}")
        self.limits = own or TUTORIALS
        self.floors: Limits = load_limits(self.limits)
        asked = option("--scheme") or ([] if own is None else [scheme for scheme in SCHEMES if scheme in self.floors])
        against = option("--gate-against")
        # Another environment is mostly another torch: other engines are held against themselves only if asked for.
        known = [name for name in self.floors if name in SCHEMES and (SCHEMES[name].of is nn.Module or not against)]
        schemes, self.left_out = select_schemes(asked, self.workload.speed.model, known)
        if not schemes:
            raise ValueError(f"{own}: expected rows of a scheme, {', '.join(SCHEMES)}, found none")
        self._environments = [Environment.here()]
        if against:
            if not shutil.which(against):
                raise ValueError(f"--gate-against: expected an interpreter, found nothing to run at {against}")
            self._environments.append(Environment.there(against))
        self.plan = Plan(
            schemes=schemes,
            workers=option("--workers"),
            pairs=option("--pairs"),
            more=QUANTIZED_PER_SLICE * option("--pairs") if against else 0,
            bptt=option("--bptt"),
            threads=option("--threads"),
            engine=option("--engine"),
            seed=option("--order"),
        )
        self.facts = describe_machine(option("--engine")) | {"bptt": option("--bptt")}
        self.described = runs.describe_workload(self.workload)
        self._exempt = sorted(self._not_for(text=option("--corpus") is not None)) if own is None else []
        self._baseline, self.which = self._find_baseline(config)
        self._recording: Recording | None = None
        self.cases: list[str] = []
        self.others: dict[str, dict[str, dict[str, float]]] = {}
        self.failures: list[str] = []
        self.broken = ""
        self.code: int | None = None

    def _not_for(self, text: bool) -> set[str]:
        """Return the metrics that the tutorial's floors are not for: those of another shape, or another text."""
        config: ModelConfig = self.workload.speed.model.config
        another_shape = replace(config, dropout=0) != replace(ModelConfig(), dropout=0)
        return ({"bytes_per_token"} if text else set()) | (
            {"speedup", "size_ratio", "overhead"} if another_shape else set()
        )

    def _find_baseline(self, config: pytest.Config) -> tuple[runs.Run | None, str]:
        """Choose among the runs that ``--benchmark-compare`` finds; its own storage is asked, whatever it is.

        pytest-benchmark passes over files that it cannot read; what was asked for is to be there, and whole.
        """
        required, compare = config.getoption("--gate-baseline") == "require", config.getoption("benchmark_compare")
        if not compare:
            if required:
                raise ValueError("--gate-baseline=require needs --benchmark-compare")
            return None, ""
        storage = config._benchmarksession.storage
        if isinstance(storage, FileStorage):
            paths = storage.query("[0-9][0-9][0-9][0-9]_" if compare is True else compare)
            found = map(run_file.read_run, reversed(paths))
        else:  # Elasticsearch's, whose own loading leaves out all that is ours; the newest documents come first
            hits = storage._search(storage._project_name, None if compare is True else compare)["hits"]["hits"]
            documents = {hit["_source"]["benchmark_id"]: hit["_source"] for hit in reversed(hits)}
            found = (run_file.from_json(document, name) for name, document in reversed(documents.items()))
        now = runs.conditions(self.facts, self.described, asdict(self.plan))
        return baseline.select_baseline(found, now, self.plan.schemes, named=compare is not True, required=required)

    @property
    def measured(self) -> bool:
        """Whether there is a run already."""
        return self._recording is not None

    @property
    def run(self) -> runs.Run:
        """The run; it is measured now, if it is not yet."""
        if self._recording is None:
            total = self.plan.workers * (self.plan.pairs + self.plan.more)
            with progress("timing", total) as advance:
                self._recording = measure(self.workload, self.plan, self._environments, lambda at: advance(1, at))
        return runs.Run(
            recording=self._recording,
            workload=self.described,
            floors=self.floors,
            exempt=self._exempt,
            cases=list(self.cases),
            others=self.others,
            failures=list(self.failures),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def judge_scheme(self, scheme: str) -> list[Verdict]:
        """Judge a scheme whose case ran to its end."""
        self.cases.append(scheme)
        return judge.judge_scheme(self.run, scheme, self._baseline)

    def judge_other(self, case: str, figures: dict[str, dict[str, float]]) -> list[Verdict]:
        """Judge a case that is no scheme's."""
        self.others[case] = figures
        return judge.judge_other_case(case, figures, self.floors, str(self.facts["isa"]), self._exempt)

    def verdicts(self) -> list[Verdict]:
        """Judge all that there is; if no session was measured, no scheme was."""
        if self.measured:
            return judge.judge(self.run, self._baseline)
        why = self.broken or "no benchmark of it ran"
        missing = [not_measured(scheme, "all", why) for scheme in self.plan.schemes]
        isa = str(self.facts["isa"])
        return missing + judge.judge_other_cases(self.others, self.failures, self.floors, isa, self._exempt)

    def conclude(self, failed: bool) -> int:
        """Settle the exit code; it is never 0 if a case ``failed``."""
        self.code = worst(self.verdicts()).exit_code or int(failed)
        return self.code
