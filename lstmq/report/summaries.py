"""Saved runs side by side: a summary of each scheme in each run, and what changed between torch versions."""

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from packaging.version import Version

from lstmq.files import check_input
from lstmq.gate import Conditions, ConfidenceInterval, Outcome, Run, RunError, exact, read_run, scheme_outcome
from lstmq.quantization import FLOAT32

UNKNOWN = exact(math.nan)
MIN_RUNS = 5  # fewest runs between two change points


@dataclass(frozen=True, kw_only=True)
class SchemeSummary:
    """The figures of one scheme in one run.

    Attributes:
        scheme: a key of :data:`lstmq.SCHEMES`.
        torch: the version of torch.
        date: of the run, ISO 8601.
        conditions: what must be the same for two summaries to be comparable.
        outcome: the worst verdict on the scheme, judged by the limits of the run.
        run_outcome: the outcome of the whole run.
        reason: why the scheme was not measured; empty if it was.
        speedup: over float32 in the same run.
        us: microseconds per token.
        us_float32: microseconds per token of float32.
        size: serialised bytes.
        parts: serialised bytes by part of the model.
        size_ratio: bytes of float32 over those of the scheme.
        loss: nats per token.
        loss_float32: nats per token of float32.
        kl: mean divergence from the predictions of float32, in nats; NaN if unknown.
        least_speedup: the smallest speedup that passes, if there is a limit.
        peak: what one thread of the processor could do at most in this run, in words; empty if unknown.
        runs: number of runs with this version of torch. This one is the newest that was not too noisy.
    """

    scheme: str
    torch: str
    date: str
    conditions: Conditions
    outcome: Outcome
    run_outcome: str
    reason: str = ""
    speedup: ConfidenceInterval = UNKNOWN
    us: float = math.nan
    us_float32: float = math.nan
    size: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    size_ratio: float = math.nan
    loss: float = math.nan
    loss_float32: float = math.nan
    kl: float = math.nan
    least_speedup: float | None = None
    peak: str = ""
    runs: int = 1

    @property
    def machine(self) -> str:
        """The processor and its instruction set, in words."""
        return f"{self.conditions.cpu} ({self.conditions.isa})"

    @property
    def is_measured(self) -> bool:
        """Whether there are figures."""
        return not self.reason

    @property
    def is_valid(self) -> bool:
        """Whether there are figures, and the machine was calm enough for those of speed."""
        return self.is_measured and self.outcome is not Outcome.INVALID


def find_run_files(paths: Iterable[Path]) -> list[Path]:
    """Return the given files, and all ``.json`` files in the given folders and below, sorted by name.

    Raises:
        ValueError: if a folder has none.
        OSError: if a given file does not exist, or is a pipe or a device.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*.json") if file.is_file())
        else:
            check_input(path)
            found = [path]
        if not found:
            raise ValueError(f"{path}: expected saved runs, found no .json in it")
        files += found
    return files


def read_summaries(
    paths: Iterable[Path], named: Collection[Path] = (), on_file: Callable[[Path, bool], object] | None = None
) -> Iterator[SchemeSummary]:
    """Read runs one by one, and yield the summary of each scheme.

    Args:
        paths: files. A file that is not a run of this version is skipped.
        named: files that must be runs, because the user named them.
        on_file: called after each file, with whether it held a run.
    """
    for path in paths:
        run = None
        try:
            run = read_run(path)
        except RunError:
            if path in named:
                raise
        if run:
            yield from summarize_run(run)
        if on_file:
            on_file(path, run is not None)


def summarize_run(run: Run) -> Iterator[SchemeSummary]:
    """Yield the summary of each scheme of a run."""
    here = run.recording.here
    for scheme in run.recording.plan.schemes:
        summary = SchemeSummary(
            scheme=scheme,
            torch=here.machine.torch,
            date=run.date,
            conditions=run.conditions,
            outcome=Outcome.NOT_MEASURED,
            run_outcome=run.outcome,
            reason=here.absent.get(scheme, ""),
            peak=str(here.peak or ""),
        )
        if not summary.is_measured:
            yield summary
            continue
        fidelity = run.fidelity(scheme)
        yield replace(
            summary,
            outcome=scheme_outcome(run, scheme),
            speedup=run.speedup(scheme),
            us=run.us_per_token(scheme),
            us_float32=run.us_per_token(FLOAT32),
            size=run.size(scheme),
            parts=tuple(here.sizes[scheme].parts.items()),
            size_ratio=run.size(FLOAT32) / run.size(scheme),
            loss=fidelity.loss,
            loss_float32=run.fidelity(FLOAT32).loss,
            kl=math.nan if fidelity.kl is None else fidelity.kl,
            least_speedup=run.least_speedup(scheme),
        )


def group_summaries(summaries: Iterable[SchemeSummary]) -> list[list[list[SchemeSummary]]]:
    """Return groups of tables: one group for the same conditions, one table for each scheme, one row for each torch.

    If several runs have the same version of torch, the newest run that was calm enough is its row.
    """

    def rank(summary: SchemeSummary) -> tuple[bool, str]:
        return summary.outcome is not Outcome.INVALID, summary.date

    newest: dict[tuple[object, ...], SchemeSummary] = {}
    for summary in summaries:
        key = (summary.conditions, summary.scheme, summary.torch)
        known = newest.get(key)
        newest[key] = replace(max(known, summary, key=rank), runs=known.runs + 1) if known else summary
    groups: dict[Conditions, dict[str, list[SchemeSummary]]] = {}
    for summary in sorted(newest.values(), key=lambda row: version_key(row.torch)):
        groups.setdefault(summary.conditions, {}).setdefault(summary.scheme, []).append(summary)
    return [[*groups[conditions].values()] for conditions in sorted(groups)]


def version_key(torch: str) -> tuple[Version, str]:
    """Return the sort key of a version of torch: 2.2.2, 2.10.0, 2.14.0.dev20261101, 2.14.0, 2.14.0+cpu."""
    try:
        return Version(torch), torch
    except ValueError:  # a custom build
        return Version("0"), torch


def changed_figures(first: SchemeSummary, now: SchemeSummary) -> set[str]:
    """Return which figures differ from the first row: size, loss, and speedup if the intervals are apart."""
    if not (first.is_measured and now.is_measured):
        return set()
    changed = {name for name in ("size", "loss") if getattr(first, name) != getattr(now, name)}
    is_apart = now.speedup.lower > first.speedup.upper or now.speedup.upper < first.speedup.lower
    return changed | ({"speedup"} if first.is_valid and now.is_valid and is_apart else set())


def describe_changes(table: Sequence[SchemeSummary]) -> Iterator[str]:
    """Yield sentences on what changed: loss and size from row to row, the speedup since the first row."""
    measured = [row for row in table if row.is_measured]
    for row in table:
        if not row.is_measured:
            yield f"{row.scheme} was not measured with torch {row.torch}: {row.reason}"
    for before, now in pairwise(measured):
        for name, change in ((FLOAT32, now.loss_float32 - before.loss_float32), (now.scheme, now.loss - before.loss)):
            if change:
                yield f"{name} loss moved by {change:+.1g} with torch {now.torch}"
        if change := now.size - before.size:
            yield f"{now.scheme} {'grew' if change > 0 else 'shrank'} by {abs(change):,} bytes with torch {now.torch}"
    for now in measured[1:]:
        if "speedup" in changed_figures(measured[0], now):
            yield (
                f"{now.scheme} speedup is {now.speedup.median:.2f} with torch {now.torch}, and was "
                f"{measured[0].speedup.median:.2f} with torch {measured[0].torch}: the intervals are apart, but the "
                "sessions differ; run `--gate-against` to be sure"
            )


def change_points(figures: Sequence[float]) -> list[int]:
    """Return the places where the level of a series changes, found by PELT with a squared-error cost.

    The penalty for a change point is three times the variance of the series times the logarithm of its length, similar
    to the Bayesian information criterion. The variance comes from the differences of neighbours, which a few changes of
    level hardly affect.

    Source: R. Killick, P. Fearnhead, I. A. Eckley: Optimal detection of changepoints with a linear computational cost,
    2012, as implemented by ``ruptures``.
    """
    import numpy as np
    import ruptures

    if len(figures) < 2 * MIN_RUNS:
        return []
    steps = [abs(b - a) for a, b in pairwise(figures)]
    deviation = statistics.median(steps) / (0.6745 * math.sqrt(2))  # of a normal distribution
    penalty = 3 * max(deviation, 1e-5) ** 2 * math.log(len(figures))
    series = np.array(figures).reshape(-1, 1)
    ends = ruptures.KernelCPD(kernel="linear", min_size=MIN_RUNS).fit_predict(series, pen=penalty)
    return [int(end) for end in ends[:-1]]
