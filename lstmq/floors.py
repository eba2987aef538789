"""Limits that a file holds: :func:`load_floors`, and what would replace a row of it, :func:`replacement`."""

import json
import tomllib
from collections.abc import Mapping
from datetime import date, time
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from pathlib import Path
from typing import Any

ISAS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2")  # as lstmq.machine tells them
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


def replacement(metric: str, row: Row, figure: float, machine: Mapping[str, Any], date: str, command: str) -> str:
    """Return the line of TOML that would let ``figure`` pass by as much as the row let pass what it was measured as.

    The slack of a ratio is a share of it, that of a difference an amount.
    """
    line = []
    for key, rounding in (("at_least", ROUND_FLOOR), ("at_most", ROUND_CEILING)):
        if key in row:
            measured = row.get("measured", row[key])
            limit = figure * (row[key] / measured) if _is_ratio(metric) and measured else figure + (row[key] - measured)
            line.append(f"{key} = {Context(prec=4, rounding=rounding).create_decimal_from_float(limit):g}")
    where = f"{machine['cpu']} ({machine['isa']}), torch {machine['torch']}"
    line += [f"measured = {figure:.4g}", f"date = {date}", f"machine = {_text(where)}", f"command = {_text(command)}"]
    return f"{metric} = {{ {', '.join(line)} }}"


def _text(text: str) -> str:
    """Return text as TOML has it: as JSON does, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_ratio(metric: str) -> bool:
    return metric in ("speedup", "size_ratio", "overhead", "bytes_per_token")
