"""Limits that a file holds: :func:`load_floors`."""

import tomllib
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from lstmq.comparison import INSTRUCTION_SETS
from lstmq.quantization import SCHEMES

OTHER_CASES = ("evaluate", "train", "corpus")  # cases of the benchmarks that are no scheme's
Limit = Mapping[str, Any]
"""A limit: ``at_least``, ``at_most`` or both, and what it was ``measured`` as, when, where and by which command."""

Limits = Mapping[str, Mapping[str, Any]]
"""Rows by case and metric; under a case, an instruction set's name holds the rows that replace them there."""


def load_limits(path: Path) -> Limits:
    """Read a TOML file of ``[case]`` tables with a row for every metric: ``speedup = { at_least = 1.4 }``.

    ``[case.avx2]`` holds the rows for processors whose widest integer instructions are those.

    Raises:
        ValueError: if it is not that.
        OSError: if it cannot be read.
    """
    try:
        floors: Limits = _dates_as_text(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # not TOML, or not UTF-8
        raise ValueError(f"{path}: {error}") from None
    check_limits(floors, str(path))
    if unknown := floors.keys() - {*SCHEMES, *OTHER_CASES}:
        there = ", ".join([*SCHEMES, *OTHER_CASES])
        raise ValueError(f"{path}: no such case: {', '.join(sorted(unknown))}; there are {there}")
    return floors


def _dates_as_text(value: Any) -> Any:
    """Return what was read with text for dates, which JSON has not."""
    if isinstance(value, dict):
        return {key: _dates_as_text(inner) for key, inner in value.items()}
    return value.isoformat() if isinstance(value, date | time) else value  # a datetime is a date


def check_limits(floors: Limits, origin: str) -> None:
    """Raise ``ValueError``, naming ``origin``, if these are no floors."""
    for case, table in floors.items():
        rows = dict(table) if isinstance(table, Mapping) else {"": table}
        for isa in [name for name in rows if name in INSTRUCTION_SETS and isinstance(rows[name], Mapping)]:
            rows |= {f"{isa} {metric}": row for metric, row in rows.pop(isa).items()}
        for metric, row in rows.items():
            describe_limit = (
                [row[key] for key in ("at_least", "at_most") if key in row] if isinstance(row, Mapping) else []
            )
            measured = row.get("measured", 0) if isinstance(row, Mapping) else 0
            numbers = [*describe_limit, measured]
            if not describe_limit or not all(isinstance(each, int | float) and abs(each) < 1e300 for each in numbers):
                raise ValueError(f"{origin}: expected at_least or at_most, numbers, for {case} {metric}, found {row}")


def limits_for(floors: Limits, case: str, isa: str) -> dict[str, Limit]:
    """Return the rows of a case by metric, for processors with these instructions."""
    table = floors.get(case, {})
    return {metric: row for metric, row in table.items() if metric not in INSTRUCTION_SETS} | dict(table.get(isa, {}))


def describe_limit(row: Limit) -> str:
    """Return what the row demands, in words."""
    return " and ".join(f"{key.replace('_', ' ')} {row[key]:g}" for key in ("at_least", "at_most") if key in row)
