"""Runs side by side: how each scheme stood in each environment, :func:`side_by_side`, and what :func:`changed`."""

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from packaging.version import Version

from lstmq.gate import (
    HERE,
    ConfidenceInterval,
    Outcome,
    Run,
    RunError,
    exact,
    judge_scheme,
    judge_session,
    not_measured,
    run_file,
    worst,
)
from lstmq.quantization import FLOAT32

NOT_MEASURED_INTERVAL = exact(math.nan)
SHORTEST = 5  # runs between two change points


@dataclass(frozen=True, kw_only=True)
class SchemeSummary:
    """How one scheme stood in one run.

    Attributes:
        scheme: ``int8``, say.
        torch: its version.
        where: processor and instructions, in words.
        date: of the run, ISO 8601.
        conditions: what must be the same for standings to be comparable: of machine, workload and window.
        outcome: the worst of the verdicts on it by its floors; ``reason`` says why it was not measured.
        run_outcome: what its session ended as, whatever was judged there.
        speedup: over float32 in the same run.
        us: microseconds per token; ``us_float32``, float32's.
        size: serialised bytes; ``parts``, by part; ``size_ratio``, float32's over them.
        loss: nats per token; ``loss_float32``, float32's.
        kl: mean divergence from float32's predictions, in nats; not a number if it is not known.
        floor: the least speedup that passes, if there is a limit.
        runs: how many there were of this environment; this is the newest.
    """

    scheme: str
    torch: str
    where: str
    date: str
    conditions: tuple[tuple[str, str], ...]
    outcome: Outcome
    run_outcome: str
    reason: str = ""
    speedup: ConfidenceInterval = NOT_MEASURED_INTERVAL
    us: float = float("nan")
    us_float32: float = float("nan")
    size: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    size_ratio: float = float("nan")
    loss: float = float("nan")
    loss_float32: float = float("nan")
    kl: float = float("nan")
    floor: float | None = None
    runs: int = 1

    @property
    def measured(self) -> bool:
        """Whether there are figures."""
        return not self.reason

    @property
    def valid(self) -> bool:
        """Whether its figures of speed are of a machine that was not too noisy."""
        return self.measured and self.outcome is not Outcome.INVALID


def find_run_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files that are meant: themselves, and all ``.json`` in folders and below, in order of their names.

    Raises:
        ValueError: if there is none in a folder, or nothing at a path.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(each for each in path.rglob("*.json") if each.is_file()) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: expected saved runs, found no .json in it")
        found += inside
    return found


def read_summaries(
    paths: Iterable[Path], named: Collection[Path] = (), on_file: Callable[[Path, bool], object] | None = None
) -> Iterator[SchemeSummary]:
    """Read runs one by one and yield how their schemes stood.

    Args:
        paths: files.
        named: those that are to be runs of ours; another file that is none is passed over.
        on_file: called after each, with whether it held a run of this version.
    """
    for path in paths:
        run = None
        try:
            run = run_file.read_run(path)
        except RunError:
            if path in named:
                raise
        if run:
            yield from summarize_run(run)
        if on_file:
            on_file(path, run is not None)


def summarize_run(run: Run) -> Iterator[SchemeSummary]:
    """Yield how each scheme of a run stood."""
    here, machine = run.recording.environments[HERE], run.machine
    invalid = judge_session(run)
    for scheme in run.recording.plan["schemes"]:
        stood = SchemeSummary(
            scheme=scheme,
            torch=machine["torch"],
            where=f"{machine['cpu']} ({machine['isa']})",
            date=run.date,
            conditions=tuple((key, str(value)) for key, value in run.conditions.items()),
            outcome=Outcome.NOT_MEASURED,
            run_outcome=run.outcome,
            reason=here["absent"].get(scheme, ""),
        )
        if stood.reason:
            yield stood
            continue
        verdicts = judge_scheme(run, scheme) if scheme in run.cases else [not_measured(scheme, "all", "")]
        fidelity, float32 = run.fidelity(HERE, scheme), run.fidelity(HERE, FLOAT32)
        figures = run.figures(scheme)
        yield replace(
            stood,
            outcome=worst([*verdicts, *invalid]),
            speedup=figures["speedup"],
            us=run.us_per_token(HERE, scheme),
            us_float32=run.us_per_token(HERE, FLOAT32),
            size=run.size(HERE, scheme),
            parts=tuple(here["sizes"][scheme]["parts"].items()),
            size_ratio=figures["size_ratio"].median,
            loss=fidelity.loss,
            loss_float32=float32.loss,
            kl=math.nan if fidelity.kl is None else fidelity.kl,
            floor=run.least_speedup(scheme),
        )


def group_summaries(stood: Iterable[SchemeSummary]) -> list[list[list[SchemeSummary]]]:
    """Return groups of tables: a group for the same conditions, a table a scheme, a row a version of torch, in order.

    Of several runs with one version the newest that was not too noisy is its row. What may not be compared is in
    different groups.
    """

    def rank(one: SchemeSummary) -> tuple[bool, str]:
        return one.outcome is not Outcome.INVALID, one.date

    newest: dict[tuple[object, ...], SchemeSummary] = {}
    for each in stood:
        key = (each.conditions, each.scheme, each.torch)
        known = newest.get(key)
        newest[key] = replace(max(known, each, key=rank), runs=known.runs + 1) if known else each
    groups: dict[tuple[tuple[str, str], ...], dict[str, list[SchemeSummary]]] = {}
    for each in sorted(newest.values(), key=lambda one: version(one.torch)):
        groups.setdefault(each.conditions, {}).setdefault(each.scheme, []).append(each)
    return [[*tables.values()] for _, tables in sorted(groups.items())]


def version(torch: str) -> tuple[Version, str]:
    """Return what versions are ordered by: 2.2.2, 2.10.0, 2.14.0.dev20261101, 2.14.0, 2.14.0+cpu."""
    try:
        return Version(torch), torch
    except ValueError:  # of somebody's own torch
        return Version("0"), torch


def changed_figures(first: SchemeSummary, now: SchemeSummary) -> set[str]:
    """Return what differs from the first row: ``speedup`` beyond both intervals, ``size`` and ``loss`` at all."""
    if not (first.measured and now.measured):
        return set()
    both = first.valid and now.valid
    apart = both and (now.speedup.lower > first.speedup.upper or now.speedup.upper < first.speedup.lower)
    found = {"speedup"} if apart else set()
    return found | {name for name in ("size", "loss") if getattr(first, name) != getattr(now, name)}


def describe_changes(table: Sequence[SchemeSummary]) -> Iterator[str]:
    """Say in sentences what changed from row to row, and of the speedup what changed since the first."""
    measured = [each for each in table if each.measured]
    for each in table:
        if not each.measured:
            yield f"{each.scheme} was not measured at torch {each.torch}: {each.reason}"
    for before, now in pairwise(measured):
        at = f"at torch {now.torch}"
        for arm, by in ((FLOAT32, now.loss_float32 - before.loss_float32), (now.scheme, now.loss - before.loss)):
            if by:
                yield f"{arm} loss moved by {by:+.1g} {at}"
        if by := now.size - before.size:
            yield f"{now.scheme} {'grew' if by > 0 else 'shrank'} by {abs(by):,} bytes {at}"
    for now in measured[1:]:
        if "speedup" in changed_figures(measured[0], now):
            was = f"{measured[0].speedup.median:.2f} at torch {measured[0].torch}"
            yield (
                f"{now.scheme} speedup {now.speedup.median:.2f} at torch {now.torch}, {was}: "
                "beyond both intervals, but in different sessions; `--gate-against` tells for sure"
            )


def change_points(figures: Sequence[float]) -> list[int]:
    """Return the places where a series of figures begins to lie elsewhere, by PELT with a squared-error cost.

    The penalty for a change point is three times the series' variance times the logarithm of its length (much as in the
    Bayesian information criterion); the variance is taken from neighbours' differences, which few changes leave alone.

    Source: R. Killick, P. Fearnhead, I. A. Eckley: Optimal detection of changepoints with a linear computational cost,
    2012, as the package ``ruptures`` has it.
    """
    import numpy as np
    import ruptures

    if len(figures) < 2 * SHORTEST:
        return []
    steps = [abs(b - a) for a, b in pairwise(figures)]
    spread = statistics.median(steps) / (0.6745 * math.sqrt(2))  # a normal variable's standard deviation
    penalty = 3 * max(spread, 1e-9) ** 2 * math.log(len(figures))
    series = np.array(figures).reshape(-1, 1)
    ends = ruptures.KernelCPD(kernel="linear", min_size=SHORTEST).fit_predict(series, pen=penalty)
    return [int(end) for end in ends[:-1]]
