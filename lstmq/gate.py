"""Figures against floors: :func:`load_floors`, :func:`judge`. It knows nothing of pytest."""

import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Floors = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Rows by case and metric. A row has ``at_least``, ``at_most`` or both, and says where ``measured`` is from."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one figure: ``passed`` is ``None`` if there is no limit to judge it by."""

    case: str
    metric: str
    figure: float
    passed: bool | None
    reason: str

    def __str__(self) -> str:
        mark = {True: "pass", False: "FAIL", None: "----"}[self.passed]
        return f"{mark}  {self.case} {self.metric} {self.figure:.4g}: {self.reason}"


def load_floors(path: Path) -> Floors:
    """Read a TOML file of ``[case]`` tables with a row for every metric: ``speedup = { at_least = 1.4 }``.

    Raises:
        ValueError: if it is not that.
        OSError: if it cannot be read.
    """
    try:
        floors = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, or not UTF-8
        raise ValueError(f"{path}: {error}") from None
    for case, rows in floors.items():
        for metric, row in rows.items() if isinstance(rows, dict) else [("", None)]:
            limits = [row[key] for key in ("at_least", "at_most") if key in row] if isinstance(row, dict) else []
            if not limits or not all(isinstance(limit, int | float) for limit in limits):
                raise ValueError(f"{path}: expected at_least or at_most, numbers, for {case} {metric}, found {row}")
    return floors


def judge(case: str, figures: Mapping[str, float], floors: Floors, exempt: Collection[str] = ()) -> list[Verdict]:
    """Hold each figure of a case against its row; a row whose figure is not there fails, as not measured.

    Args:
        case: ``int8``, say.
        figures: by metric.
        floors: from :func:`load_floors`.
        exempt: metrics that these floors are not for.
    """
    verdicts = [_verdict(case, metric, figure, floors, exempt) for metric, figure in figures.items()]
    for metric in floors.get(case, {}).keys() - figures.keys():
        reason = f"expected one of {', '.join(figures)}: not measured"
        verdicts.append(Verdict(case=case, metric=metric, figure=math.nan, passed=False, reason=reason))
    return verdicts


def _verdict(case: str, metric: str, figure: float, floors: Floors, exempt: Collection[str]) -> Verdict:
    row = floors.get(case, {}).get(metric)
    if row is None or metric in exempt:
        reason = "not judged: it has no limit" if row is None else "not judged: the limit is of another shape or text"
        return Verdict(case=case, metric=metric, figure=figure, passed=None, reason=reason)
    reason = "expected " + " and ".join(
        f"{key.replace('_', ' ')} {row[key]}" for key in ("at_least", "at_most") if key in row
    )
    # NaN compares as false, and so fails.
    passed = row.get("at_least", figure) <= figure <= row.get("at_most", figure)
    if not passed and "measured" in row:
        reason += f"; it was {row['measured']} on {row.get('date', 'a day')}, {row.get('machine', 'a machine')}"
    return Verdict(case=case, metric=metric, figure=figure, passed=passed, reason=reason)
