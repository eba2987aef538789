"""Limits that a file holds: :func:`load_floors`."""

import tomllib
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from lstmq.machine import ISAS
from lstmq.quantization import SCHEMES

OTHERS = ("evaluate", "train", "corpus")  # cases of the benchmarks that are no scheme's
Row = Mapping[str, Any]
"""A limit: ``at_least``, ``at_most`` or both, and what it was ``measured`` as, when, where and by which command."""

Floors = Mapping[str, Mapping[str, Any]]
"""Rows by case and metric; under a case, an instruction set's name holds the rows that replace them there."""


def load_floors(path: Path) -> Floors:
    """Read a TOML file of ``[case]`` tables with a row for every metric: ``speedup = { at_least = 1.4 }``.

    ``[case.avx2]`` holds the rows for processors whose widest integer instructions are those.

    Raises:
        ValueError: if it is not that.
        OSError: if it cannot be read.
    """
    try:
        floors: Floors = _dates_as_text(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # not TOML, or not UTF-8
        raise ValueError(f"{path}: {error}") from None
    check_floors(floors, str(path))
    if unknown := floors.keys() - {*SCHEMES, *OTHERS}:
        there = ", ".join([*SCHEMES, *OTHERS])
        raise ValueError(f"{path}: no such case: {', '.join(sorted(unknown))}; there are {there}")
    return floors


def _dates_as_text(value: Any) -> Any:
    """Return what was read with text for dates, which JSON has not."""
    if isinstance(value, dict):
        return {key: _dates_as_text(inner) for key, inner in value.items()}
    return value.isoformat() if isinstance(value, date | time) else value  # a datetime is a date


def check_floors(floors: Floors, origin: str) -> None:
    """Raise ``ValueError``, naming ``origin``, if these are no floors."""
    for case, table in floors.items():
        rows = dict(table) if isinstance(table, Mapping) else {"": table}
        for isa in [name for name in rows if name in ISAS and isinstance(rows[name], Mapping)]:
            rows |= {f"{isa} {metric}": row for metric, row in rows.pop(isa).items()}
        for metric, row in rows.items():
            limits = [row[key] for key in ("at_least", "at_most") if key in row] if isinstance(row, Mapping) else []
            measured = row.get("measured", 0) if isinstance(row, Mapping) else 0
            numbers = [*limits, measured]
            if not limits or not all(isinstance(each, int | float) and abs(each) < 1e300 for each in numbers):
                raise ValueError(f"{origin}: expected at_least or at_most, numbers, for {case} {metric}, found {row}")


def rows_of(floors: Floors, case: str, isa: str) -> dict[str, Row]:
    """Return the rows of a case by metric, for processors with these instructions."""
    table = floors.get(case, {})
    return {metric: row for metric, row in table.items() if metric not in ISAS} | dict(table.get(isa, {}))


def limits(row: Row) -> str:
    """Return what the row demands, in words."""
    return " and ".join(f"{key.replace('_', ' ')} {row[key]:g}" for key in ("at_least", "at_most") if key in row)
