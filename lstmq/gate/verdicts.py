"""What becomes of a figure: :class:`Verdict` with its :class:`Outcome`, and how an interval decides it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lstmq.gate.statistics import ConfidenceInterval, exact

MEASURE_MORE = "--workers 12, or more --pairs, would decide it"


class Outcome(StrEnum):
    """What becomes of a figure, the worst first, as it decides over the session."""

    FAIL = "FAIL"
    NOT_MEASURED = "NOT MEASURED"
    INVALID = "INVALID"
    INCONCLUSIVE = "INCONCLUSIVE"
    PASS = "PASS"  # noqa: S105 - no password
    UNJUDGED = "----"

    @property
    def exit_code(self) -> int:
        """Pytest's own end at 6, so the gate's begin at 10; a session in which nothing is judged is no pass."""
        return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 10, "INVALID": 11}.get(self.value, 12)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one figure.

    Attributes:
        question: ``floor``, ``against`` the other environment, ``baseline``, ``session`` for the machine itself, or
            ``case`` for one that failed for no figure.
        case: ``int8``, say.
        metric: ``speedup``, say.
        outcome: of it.
        figure: as measured; what is not noisy has equal ends.
        limit: what was expected, or why nothing is.
        details: both arms, now and then; what was measured before; advice.
    """

    question: str
    case: str
    metric: str
    outcome: Outcome
    figure: ConfidenceInterval
    limit: str
    details: str = ""

    @property
    def shown(self) -> str:
        """The figure, with its interval if it is noisy."""
        ends = "" if self.figure.lower == self.figure.upper else f" [{self.figure.lower:.4g}, {self.figure.upper:.4g}]"
        return "" if math.isnan(self.figure.median) else f"{format_number(self.figure.median)}{ends}"

    def __str__(self) -> str:
        details = f" ({self.details})" if self.details else ""
        return f"{self.outcome}  {self.case} {self.metric} {self.shown}: {self.limit}{details}"


def not_measured(case: str, metric: str, limit: str, question: str = "floor") -> Verdict:
    """Return the verdict on a figure that is not there."""
    return Verdict(
        question=question,
        case=case,
        metric=metric,
        outcome=Outcome.NOT_MEASURED,
        figure=exact(math.nan),
        limit=limit,
    )


def format_number(number: float) -> str:
    """Return a figure with the digits that matter: all of bytes, four of others."""
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.4g}"


def worst(verdicts: Iterable[Verdict]) -> Outcome:
    """Return the outcome that the session has; it is no pass if nothing was judged."""
    outcomes = {verdict.outcome for verdict in verdicts} - {Outcome.UNJUDGED}
    return next((outcome for outcome in Outcome if outcome in outcomes), Outcome.NOT_MEASURED)


def decide(figure: ConfidenceInterval, at_least: float = -math.inf, at_most: float = math.inf) -> Outcome:
    """Pass what clears the limits at its worse end, fail what does not even at its better; NaN fails."""
    if figure.lower >= at_least and figure.upper <= at_most:
        return Outcome.PASS
    if figure.upper >= at_least and figure.lower <= at_most:
        return Outcome.INCONCLUSIVE
    return Outcome.FAIL
