"""Limits: read from a TOML file, looked up for a processor, and proposed from new measurements."""

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
    whose widest integer instruction set is AVX2.

    Raises:
        ValueError: in one line, if the file is not valid.
        OSError: if it cannot be read.
    """
    try:
        tables: dict[str, Any] = msgspec.to_builtins(tomllib.loads(read_input(path).decode("utf-8")))  # dates as text
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested too deeply
        raise ValueError(f"{path}: {error}") from None
    if unknown := tables.keys() - {*SCHEMES, *OTHER_CASES}:
        known = ", ".join([*SCHEMES, *OTHER_CASES])
        raise ValueError(f"{path}: no such case: {', '.join(sorted(unknown))}; expected {known}")
    return {case: _case_limits(table, case, path) for case, table in tables.items()}


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


def proposed_limits(verdicts: Iterable[Verdict], limits: Limits, machine: Machine, date: str, command: str) -> str:
    """Return TOML tables with new rows for the limits that figures failed; empty if none failed.

    Args:
        verdicts: of one session.
        limits: the limits that it was judged by.
        machine: where it was measured.
        date: of the session, ISO 8601.
        command: that ran the session.
    """
    tables: dict[str, list[str]] = {}
    for verdict in verdicts:
        limit = limits_for(limits, verdict.case, machine.isa).get(verdict.metric)
        has_failed = verdict.question == "limit" and verdict.outcome is Outcome.FAIL
        if has_failed and limit and verdict.figure and verdict.figure_text:
            for_isa = verdict.metric in limits[verdict.case].by_isa.get(machine.isa, {})
            table = f"{verdict.case}.{machine.isa}" if for_isa else verdict.case
            row = proposed_limit(verdict.metric, limit, verdict.figure.median, machine, date, command)
            tables.setdefault(table, []).append(row)
    return "".join("\n".join([f"[{name}]", *rows]) + "\n" for name, rows in tables.items())


def proposed_limit(metric: str, limit: Limit, figure: float, machine: Machine, date: str, command: str) -> str:
    """Return a row of TOML that leaves as much margin around ``figure`` as the old row left around its measurement.

    The margin of a ratio is a share of it. The margin of a difference is an amount.
    """
    fields = []
    for key, end, rounding in (("at_least", limit.at_least, ROUND_FLOOR), ("at_most", limit.at_most, ROUND_CEILING)):
        if end is not None:
            measured = end if limit.measured is None else limit.measured
            moved = figure * (end / measured) if metric in RATIOS and measured else figure + (end - measured)
            fields.append(f"{key} = {Context(prec=4, rounding=rounding).create_decimal_from_float(moved):g}")
    where = f"{machine.cpu} ({machine.isa}), torch {machine.torch}"
    fields += [
        f"measured = {figure:.4g}",
        f"date = {date}",
        f"machine = {_quoted(where)}",
        f"command = {_quoted(command)}",
    ]
    return f"{metric} = {{ {', '.join(fields)} }}"


def _quoted(text: str) -> str:
    """Return text as a TOML string, which is a JSON string except for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
