"""Limits: read from a TOML file, looked up for a processor, and written as its rows."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lstmq.comparison import INSTRUCTION_SETS, Machine
from lstmq.files import read_input
from lstmq.gate.statistics import ConfidenceInterval, Figure, Sample
from lstmq.gate.verdicts import MEASURE_MORE, Outcome, Verdict, decide, format_number
from lstmq.quantization import SCHEMES

OTHER_CASES = ("evaluate", "train", "corpus", "startup")  # benchmarks that do not measure a scheme
Finite = Annotated[float, msgspec.Meta(gt=-1e300, lt=1e300)]  # msgspec checks it when it reads a file
WORKLOAD = "workload"  # the key of limits that names their model
RATIOS = (
    "speedup",
    "word_speedup",
    "size_ratio",
    "overhead",
    "over_click",
    "bytes_per_token",
)  # metrics whose margin is a share


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One row of a limits file: a figure has to be at least or at most a number, or both.

    Attributes:
        at_least: smallest figure that passes.
        at_most: largest figure that passes.
        measured: the figure when the limit was set.
        date: when it was measured.
        machine: where it was measured.
        command: how it was measured.
    """

    at_least: Finite | None = None
    at_most: Finite | None = None
    measured: Finite | None = None
    date: str = ""
    machine: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("expected at_least or at_most")

    def __str__(self) -> str:
        ends = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{words} {format_number(number, 6)}" for words, number in ends if number is not None)


@dataclass(frozen=True, kw_only=True)
class CaseLimits:
    """The limits of one case by metric.

    Attributes:
        default: for every processor.
        by_isa: for processors with this instruction set. They replace the default ones.
    """

    default: dict[str, Limit]
    by_isa: dict[str, dict[str, Limit]] = field(default_factory=dict)


Limits = Mapping[str, CaseLimits]
"""Limits by case."""


def load_limits(path: Path) -> Limits:
    """Read a TOML file with one ``[case]`` table for each case, and in it one row for each metric.

    A row looks like ``speedup = { at_least = 1.4 }``. A table such as ``[int8.avx2]`` holds the rows for processors
    whose widest integer instruction set is AVX2. ``workload = "FILE.py:FUNCTION"``, before the tables, names the model
    that the limits are for, see :func:`limits_workload`.

    Raises:
        ValueError: in one line, if the file is not valid.
        OSError: if it cannot be read.
    """
    tables = _read_tables(path)
    tables.pop(WORKLOAD, None)
    if unknown := tables.keys() - {*SCHEMES, *OTHER_CASES}:
        known = ", ".join([*SCHEMES, *OTHER_CASES])
        raise ValueError(f"{path}: no such case: {', '.join(sorted(unknown))}; expected {known}")
    return {case: _case_limits(table, case, path) for case, table in tables.items()}


def limits_workload(path: Path) -> str | None:
    """Return the ``FILE.py:FUNCTION`` of the model that limits are for; ``None`` if they name none.

    The file is relative to the folder of the limits. Errors as for :func:`load_limits`.
    """
    spec = _read_tables(path).get(WORKLOAD)
    if spec is None:
        return None
    file, _, function = spec.rpartition(":") if isinstance(spec, str) else ("", "", "")
    if not file.endswith(".py") or not function:
        raise ValueError(f'{path}: expected {WORKLOAD} = "FILE.py:FUNCTION", found {spec!r:.60}')
    return f"{path.resolve().parent / file}:{function}"


def _read_tables(path: Path) -> dict[str, Any]:
    try:
        tables: dict[str, Any] = msgspec.to_builtins(tomllib.loads(read_input(path).decode("utf-8")))  # dates as text
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested too deeply
        raise ValueError(f"{path}: {error}") from None
    return tables


def _case_limits(table: object, case: str, path: Path) -> CaseLimits:
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a table [{case}], found {table!r:.60}")
    by_isa = {name: rows for name, rows in table.items() if name in INSTRUCTION_SETS and isinstance(rows, dict)}
    return CaseLimits(
        default={
            metric: _limit(row, f"{case} {metric}", path) for metric, row in table.items() if metric not in by_isa
        },
        by_isa={
            isa: {metric: _limit(row, f"{case} {isa} {metric}", path) for metric, row in rows.items()}
            for isa, rows in by_isa.items()
        },
    )


def _limit(row: object, name: str, path: Path) -> Limit:
    try:
        return msgspec.convert(row, Limit)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: expected at_least or at_most, numbers, for {name}, found {row} ({error})") from None


def limits_for(limits: Limits, case: str, isa: str) -> dict[str, Limit]:
    """Return the limits of a case by metric, for processors with this instruction set."""
    if case not in limits:
        return {}
    return limits[case].default | limits[case].by_isa.get(isa, {})


def word_schemes(limits: Limits, schemes: Iterable[str], isa: str) -> tuple[str, ...]:
    """Return the schemes that are also timed word by word, because the limits have a row for that."""
    return tuple(scheme for scheme in schemes if "word_speedup" in limits_for(limits, scheme, isa))


def judge_figure(question: str, case: str, metric: str, figure: Figure, limit: Limit, details: str = "") -> Verdict:
    """Return the verdict on a figure. A sample is judged at the first look that decides.

    If the verdict is inconclusive, the details end with advice.
    """

    def decide_interval(interval: ConfidenceInterval) -> Outcome:
        return decide(interval, limit.at_least, limit.at_most)

    if isinstance(figure, Sample):
        figure = figure.settle(lambda interval: decide_interval(interval) is not Outcome.INCONCLUSIVE)
    outcome = decide_interval(figure)
    if outcome is Outcome.INCONCLUSIVE:
        advice = "--gate-against decides it" if question == "baseline" else MEASURE_MORE
        details = f"{details}; {advice}" if details else advice
    return Verdict(question, case, metric, outcome, figure, str(limit), details)


def proposed_limit(metric: str, limit: Limit, figure: float) -> Limit:
    """Return a limit that leaves as much margin around ``figure`` as the old one left around its measurement.

    The margin of a ratio is a share of it. The margin of a difference is an amount.
    """

    def move(end: float | None) -> float | None:
        if end is None:
            return None
        measured = end if limit.measured is None else limit.measured
        return figure * (end / measured) if metric in RATIOS and measured else figure + (end - measured)

    return Limit(at_least=move(limit.at_least), at_most=move(limit.at_most))


def limit_row(metric: str, limit: Limit, figure: float, machine: Machine, date: str, command: str) -> str:
    """Return a row of TOML.

    Args:
        metric: such as ``speedup``.
        limit: its ends are rounded away from the figure, to four digits.
        figure: what was measured.
        machine: where it was measured.
        date: when, ISO 8601.
        command: how.
    """
    fields = []
    for key, end, rounding in (("at_least", limit.at_least, ROUND_FLOOR), ("at_most", limit.at_most, ROUND_CEILING)):
        if end is not None:
            fields.append(f"{key} = {Context(prec=4, rounding=rounding).create_decimal_from_float(end):g}")
    where = f"{machine.cpu} ({machine.isa}), torch {machine.torch}"
    fields += [
        f"measured = {figure:.4g}",
        f"date = {date}",
        f"machine = {quoted(where)}",
        f"command = {quoted(command)}",
    ]
    return f"{metric} = {{ {', '.join(fields)} }}"


def quoted(text: str) -> str:
    """Return text as a TOML string, which is a JSON string except for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
