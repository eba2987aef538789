"""The rows of floors that would replace those which figures are past: :func:`replacements`."""

import json
import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

from lstmq.gate.limits import Limit, Limits, limits_for
from lstmq.gate.verdicts import Outcome, Verdict


def proposed_limits(
    verdicts: Iterable[Verdict], floors: Limits, machine: Mapping[str, Any], date: str, command: str
) -> str:
    """Return the tables of TOML whose rows would replace those that a figure is past; empty if none is."""
    tables: dict[str, list[str]] = {}
    for verdict in verdicts:
        row = limits_for(floors, verdict.case, machine["isa"]).get(verdict.metric)
        if (
            verdict.question == "floor"
            and verdict.outcome is Outcome.FAIL
            and row
            and not math.isnan(verdict.figure.median)
        ):
            of_isa = verdict.metric in floors[verdict.case].get(machine["isa"], {})
            table = f"{verdict.case}.{machine['isa']}" if of_isa else verdict.case
            line = proposed_limit(verdict.metric, row, verdict.figure.median, machine, date, command)
            tables.setdefault(table, []).append(line)
    return "".join("\n".join([f"[{name}]", *rows]) + "\n" for name, rows in tables.items())


def proposed_limit(metric: str, row: Limit, figure: float, machine: Mapping[str, Any], date: str, command: str) -> str:
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
