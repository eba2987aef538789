"""What to do: about the verdicts of a session, and about an upgrade of torch."""

from collections.abc import Iterable, Sequence

from packaging.version import InvalidVersion, Version

from lstmq.gate import Outcome, Verdict
from lstmq.report.summaries import SchemeSummary, changed_figures, version_key

Group = Sequence[Sequence[SchemeSummary]]
Groups = Sequence[Group]
ORDER = tuple(Outcome)  # the worst comes first
CAUSES = 3  # how many causes a sentence names
FAILED = {
    "limit": "Find the change that moved this figure. If it is intended, set new limits: `lstmq init --update`.",
    "against": "Find what differs between the two environments. This figure has no noise.",
    "baseline": "Compare with the environment of the saved run in one session: `--gate-against`.",
    "case": "Read the error of this benchmark in the log, and repair it.",
}
SLOWER = "Find what makes it slower here than there. If that is intended, allow it: `--gate-tolerance`."
NOISY = "Run again on a calmer machine, one job at a time."
NOT_FINITE = "Look at the model whose figure is not a finite number. If all are, run again on a calmer machine."
MEASURES = {
    Outcome.NOT_MEASURED: "Read the reason, install what is missing, and run without `-k`, `-n` and `--deselect`.",
    Outcome.INCONCLUSIVE: "Run again, or measure more: `--gate-looks 24,48,96,192`.",
    Outcome.UNJUDGED: "Set limits, so that something is judged.",
    Outcome.PASS: "Nothing is left to do.",
}


def worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts, the worst outcome first. Verdicts with the same outcome keep their order."""
    return sorted(verdicts, key=lambda verdict: ORDER.index(verdict.outcome))


def what_to_do(verdict: Verdict) -> str:
    """Return what to do about a verdict: one or two sentences of Markdown."""
    if verdict.outcome is Outcome.INVALID:
        return NOISY if verdict.question == "session" else NOT_FINITE
    if verdict.outcome is not Outcome.FAIL:
        return MEASURES[verdict.outcome]
    return SLOWER if verdict.metric == "slower" else FAILED[verdict.question]


def upgrade_sentence(groups: Groups) -> str:
    """Return one sentence that says whether to upgrade to the newest torch among the runs.

    Args:
        groups: from :func:`~lstmq.report.summaries.group_summaries`: groups of tables of rows.
    """
    rows = [row for group in groups for table in group for row in table]
    release = release_of(max((row.torch for row in rows), key=version_key))
    machines = len({row.machine for row in rows})
    where = f"on {machines} processor{'s' * (machines != 1)}"
    if len({release_of(row.torch) for row in rows}) == 1:
        worst = min((outcome for row in rows for outcome in _outcomes(row)), key=ORDER.index)
        return f"Measure another torch to compare: these runs have only torch {release}, {worst} {where}."
    doubts = _doubts(groups, release)
    if not doubts:
        return f"Upgrade to torch {release}: every scheme passes its limits {where}, and none got slower."
    reasons = "; ".join(f"{', '.join(names)}: {text}" for (_, text), names in doubts[:CAUSES])
    reasons += f"; and {len(doubts) - CAUSES} more" if len(doubts) > CAUSES else ""
    worst = doubts[0][0][0]
    if worst is Outcome.FAIL:
        return f"Do not upgrade to torch {release}: {reasons}."
    if worst is not Outcome.UNJUDGED:
        return f"Do not upgrade to torch {release} yet: {reasons}."
    return f"Compare in one session, with --gate-against, before you upgrade to torch {release}: {reasons}."


def release_of(torch: str) -> str:
    """Return a version of torch without its build, because builds differ between processors.

    Example:
        >>> from lstmq.report.advice import release_of
        >>> release_of("2.15.0+cu132")
        '2.15.0'
    """
    try:
        return Version(torch).public
    except InvalidVersion:  # a custom build
        return torch


def _doubts(groups: Groups, release: str) -> list[tuple[tuple[Outcome, str], list[str]]]:
    """Return the reasons against an upgrade to ``release``, the worst first: outcome, reason, and schemes."""
    doubts: dict[tuple[Outcome, str], list[str]] = {}

    def add(outcome: Outcome, text: str, scheme: str) -> None:
        names = doubts.setdefault((outcome, text), [])
        names += [] if scheme in names else [scheme]

    for group in groups:
        place = place_of(group, groups)
        for table in group:
            now = next((row for row in reversed(table) if release_of(row.torch) == release), None)
            scheme = table[0].scheme
            if now is None:
                add(Outcome.NOT_MEASURED, f"not measured with it on {place}", scheme)
                continue
            outcome, run_outcome = _outcomes(now)
            if outcome is not Outcome.PASS:
                add(outcome, f"{outcome} on {place}{f' ({now.reason})' if now.reason else ''}", scheme)
            if ORDER.index(run_outcome) < ORDER.index(outcome):
                add(run_outcome, f"{run_outcome} on {place}", "another figure")
            first = next((row for row in table if row.is_measured), now)
            if "speedup" in changed_figures(first, now) and now.speedup.median < first.speedup.median:
                # Sessions differ by themselves, so this only asks for a comparison.
                before = f"was {first.speedup.median:.2f} with torch {first.torch}"
                add(Outcome.UNJUDGED, f"speedup {now.speedup.median:.2f} on {place}, {before}", scheme)
    return sorted(doubts.items(), key=lambda doubt: ORDER.index(doubt[0][0]))


def place_of(group: Group, groups: Groups) -> str:
    """Return the processor of a group, with its kernels if other groups of the processor have other kernels."""
    row = group[0][0]
    kernels = {other[0][0].conditions.kernels for other in groups if other[0][0].machine == row.machine}
    return f"{row.machine} with kernels {row.conditions.kernels}" if len(kernels) > 1 else row.machine


def _outcomes(row: SchemeSummary) -> tuple[Outcome, Outcome]:
    """Return the outcome of a scheme by the limits of its run, and the outcome of the whole run."""
    try:
        return row.outcome, Outcome(row.run_outcome)
    except ValueError:  # a run that nobody judged
        return row.outcome, row.outcome
