"""Limits from a measured run: new ones, and those of a file measured again. ``lstmq init`` writes them.

Each limit leaves a margin around the measured figure. Speedups of the same code differed by 28 % between two sessions
under a load that changed, so their margin is a third. The other figures hardly change.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lstmq.gate import Run, Sample, median_interval
from lstmq.gate.limits import WORKLOAD, Limit, limit_row, limits_for, proposed_limit, quoted
from lstmq.quantization import FLOAT32

SPEEDUP = 2 / 3  # of the measured speedup
SIZE = 0.9975  # of the measured size ratio
SHARE = 0.001  # below the measured share of quantized weights
LOSS = 0.002  # of the loss of float32, on both sides of it; or three times the measured difference
DIVERGENCE = 2.5  # times the measured divergence
SMALLEST_DIVERGENCE = 1e-7  # below it, rounding decides
TABLE, ROW = re.compile(r"\[([\w.-]+)\]\s*(#.*)?"), re.compile(r"(\w+)\s*=\s*\{.*\}")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A limit that was measured again.

    Attributes:
        case: the scheme.
        metric: such as ``speedup``.
        before: the old limit.
        after: the new one.
    """

    case: str
    metric: str
    before: Limit
    after: Limit


def medians(run: Run, scheme: str) -> dict[str, float]:
    """Return the figures of a scheme, by metric."""
    figures = run.figures(scheme)
    intervals = {
        metric: median_interval(figure.blocks) if isinstance(figure, Sample) else figure
        for metric, figure in figures.items()
    }
    return {metric: interval.median for metric, interval in intervals.items()}


def new_limits(run: Run, scheme: str) -> dict[str, Limit]:
    """Return limits for a scheme, by metric, from what a run measured."""
    figures = medians(run, scheme)
    loss = max(LOSS * abs(run.fidelity(FLOAT32).loss), 3 * abs(figures["loss_difference"]), 1e-6)
    limits = {
        "speedup": Limit(at_least=SPEEDUP * figures["speedup"]),
        "size_ratio": Limit(at_least=SIZE * figures["size_ratio"]),
        "quantized_share": Limit(at_least=figures["quantized_share"] - SHARE),
        "loss_difference": Limit(at_least=-loss, at_most=loss),
    }
    if "kl" in figures:
        limits["kl"] = Limit(at_most=max(DIVERGENCE * figures["kl"], SMALLEST_DIVERGENCE))
    return limits


def limits_file(run: Run, spec: str, date: str, command: str) -> str:
    """Return the text of a new file of limits.

    Args:
        run: what was measured.
        spec: the ``FILE.py:FUNCTION`` of the model, relative to the folder of the file.
        date: ISO 8601.
        command: that measured it.
    """
    isa = run.machine.isa
    lines = [
        "# The limits of the gate: one table for each scheme, one row for each metric. A metric without a row",
        f"# is shown, but not judged. A table such as [int8.{isa}] holds rows for processors with these instructions.",
        f"# `measured` is what `{command}` found. `lstmq init --update limits.toml` measures again.",
        "",
        f"{WORKLOAD} = {quoted(spec)}",
    ]
    for scheme in run.recording.plan.schemes:
        limits, figures = new_limits(run, scheme), medians(run, scheme)
        rows = {
            metric: limit_row(metric, limit, figures[metric], run.machine, date, command)
            for metric, limit in limits.items()
        }
        speedup = rows.pop("speedup")
        lines += ["", f"[{scheme}]", *rows.values(), "", f"[{scheme}.{isa}]", speedup]
    return "\n".join(lines) + "\n"


def update_limits(text: str, run: Run, path: Path, date: str, command: str) -> tuple[str, list[Change]]:
    """Return the text of a file of limits with the rows that were measured again, and what changed.

    A row keeps its margin. Rows of other schemes and other processors, and comments, stay as they are.

    Args:
        text: of the file.
        run: what was measured, with the limits of the file.
        path: of the file, for errors.
        date: ISO 8601.
        command: that measured it.

    Raises:
        ValueError: if a row cannot be found in the text.
    """
    isa, changes = run.machine.isa, []
    wanted = {
        (scheme if metric not in run.limits[scheme].by_isa.get(isa, {}) else f"{scheme}.{isa}", metric): (scheme, limit)
        for scheme in run.recording.plan.schemes
        for metric, limit in limits_for(run.limits, scheme, isa).items()
    }
    figures = {scheme: medians(run, scheme) for scheme in run.recording.plan.schemes}
    lines = text.splitlines(keepends=True)
    for place, table, metric in _rows(lines):
        if (table, metric) not in wanted:
            continue
        scheme, limit = wanted.pop((table, metric))
        if metric not in figures[scheme]:
            continue
        figure = figures[scheme][metric]
        after = proposed_limit(metric, limit, figure)
        row = limit_row(metric, after, figure, run.machine, date, command)
        rest = lines[place][lines[place].rindex("}") + 1 :]
        lines[place] = row + rest
        changes.append(Change(case=scheme, metric=metric, before=limit, after=after))
    if wanted:
        (table, metric), _ = next(iter(wanted.items()))
        raise ValueError(f"{path}: expected a line `{metric} = {{ ... }}` below [{table}], found none")
    return "".join(lines), changes


def _rows(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Yield the place, the table and the metric of each row."""
    table = ""
    for place, line in enumerate(lines):
        if found := TABLE.match(line.strip()):
            table = found[1]
        elif found := ROW.match(line):
            yield place, table, found[1]
