"""Verdicts: what the gate decides about one figure, and what all verdicts together mean."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lstmq.gate.statistics import ConfidenceInterval

MEASURE_MORE = "more blocks, as in --gate-looks 24,48,96,192, may decide it"


class Outcome(StrEnum):
    """The outcome for one figure. The worst outcome, which comes first here, decides the session."""

    FAIL = "FAIL"
    NOT_MEASURED = "NOT MEASURED"
    INVALID = "INVALID"
    INCONCLUSIVE = "INCONCLUSIVE"
    PASS = "PASS"  # noqa: S105 - no password
    UNJUDGED = "----"

    @property
    def exit_code(self) -> int:
        """The exit code of a session with this outcome. pytest's own codes end at 6, so the gate's start at 10."""
        return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 10, "INVALID": 11}.get(self.value, 12)


@dataclass(frozen=True)
class Verdict:
    """The decision about one figure.

    Attributes:
        question: ``limit``, ``against`` the other environment, ``baseline``, ``session`` for the machine itself, or
            ``case`` for a benchmark that failed without a figure.
        case: the scheme, such as ``int8``, or another benchmark.
        metric: such as ``speedup``.
        outcome: the outcome.
        figure: the measured figure, or ``None`` if it was not measured.
        limit: the limit, or why there is none.
        details: both sides in microseconds per token, earlier measurements, advice.
    """

    question: str
    case: str
    metric: str
    outcome: Outcome
    figure: ConfidenceInterval | None
    limit: str
    details: str = ""

    @property
    def figure_text(self) -> str:
        """The figure as text, with its interval if it is noisy."""
        if self.figure is None or math.isnan(self.figure.median):
            return ""
        ends = "" if self.figure.is_exact else f" [{self.figure.lower:.4g}, {self.figure.upper:.4g}]"
        return f"{format_number(self.figure.median)}{ends}"

    def __str__(self) -> str:
        figure, details = f" {self.figure_text}".rstrip(), f" ({self.details})" if self.details else ""
        return f"{self.outcome}  {self.case} {self.metric}{figure}: {self.limit}{details}"


def not_measured(case: str, metric: str, limit: str, question: str = "limit") -> Verdict:
    """Return the verdict for a figure that was not measured."""
    return Verdict(question, case, metric, Outcome.NOT_MEASURED, None, limit)


def format_number(number: float, digits: int = 4) -> str:
    """Return a figure with all digits if it is large enough to count bytes, else with ``digits`` significant ones."""
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.{digits}g}"


def worst(verdicts: Iterable[Verdict]) -> Outcome:
    """Return the outcome of a session. Without any judged figure it is ``NOT_MEASURED``."""
    outcomes = {verdict.outcome for verdict in verdicts} - {Outcome.UNJUDGED}
    return next((outcome for outcome in Outcome if outcome in outcomes), Outcome.NOT_MEASURED)


def decide(figure: ConfidenceInterval, at_least: float | None = None, at_most: float | None = None) -> Outcome:
    """Decide whether a figure is within its limits.

    It passes if the whole interval is, fails if no part of it is, and is inconclusive otherwise. A figure or a limit
    that is not a finite number says nothing about the code, so it is invalid.
    """
    ends = (figure.lower, figure.upper)  # which may be infinite
    if any(map(math.isnan, ends)) or not all(map(math.isfinite, (figure.median, at_least or 0, at_most or 0))):
        return Outcome.INVALID
    low = -math.inf if at_least is None else at_least
    high = math.inf if at_most is None else at_most
    if figure.lower >= low and figure.upper <= high:
        return Outcome.PASS
    if figure.upper >= low and figure.lower <= high:
        return Outcome.INCONCLUSIVE
    return Outcome.FAIL
