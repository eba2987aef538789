"""Tables: a comparison for the terminal and as JSON, verdicts as text and as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from lstmq.comparison import READING, Comparison, ComparisonRow, Machine
from lstmq.escaping import escape_markdown, markdown_item, show
from lstmq.gate import Outcome, Recording, Verdict, worst
from lstmq.report.advice import what_to_do, worst_first
from lstmq.workload import Workload

HEADERS = ("MB", "smaller", "loss", "change", "perplexity", "tokens/s", "faster", "us/word")
VERDICT_HEADERS = ("verdict", "question", "of", "metric", "figure", "limit")


def comparison_table(rows: Sequence[ComparisonRow]) -> Table:
    """Return a comparison as a table that fits into 80 columns. The first row is the reference of the others."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("", no_wrap=True)
    for header in HEADERS:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.size.megabytes:.2f}",
            f"{row.size_ratio:.2f}x",
            f"{row.loss:.4f}",
            f"{row.loss_difference:+.4f}",
            "" if row.perplexity is None else f"{row.perplexity:,.2f}",
            f"{row.tokens_per_second:,.0f}",
            f"{row.speedup.median:.2f}x",
            "" if row.us_per_word is None else f"{row.us_per_word:,.0f}",
        )
    return table


def describe_spread(rows: Sequence[ComparisonRow]) -> str:
    """Return a line with the quartiles of every speedup."""
    quartiles = (f"{row.name} {row.speedup.lower:.2f}-{row.speedup.upper:.2f}" for row in rows[1:])
    return f"faster: float32's seconds over the model's, median over windows; middle half: {', '.join(quartiles)}"


def describe_setup(rows: Sequence[ComparisonRow]) -> str:
    """Return a line with the time that each model took before it could be timed."""
    seconds = ", ".join(f"{row.name} {row.setup_seconds:.1f} s" for row in rows[1:])
    return f"setup (quantize, compile, read one window): {seconds}"


def describe_words(rows: Comparison) -> list[str]:
    """Return lines on the time per word: what it is, what was timed beside the rows, and what bounds int8-native."""
    lines = ["us/word: microseconds per word, one word at a time, as when generating; the model read words just before"]
    if beside := ", ".join(f"{name} {us:,.0f}" for name, us in rows.us_per_word.items() if name != READING):
        lines.append(f"us/word beside the table: {beside}; torch's float32 packs LSTM weights again for every window")
    native = {row.name: row.us_per_word for row in rows}.get("int8-native")
    if native and (reading := rows.us_per_word.get(READING)):
        lines.append(
            f"int8-native's us/word is {native / reading:.2f} times what reading its weights takes here, "
            f"{reading:,.0f} us"
        )
    return lines


def comparison_json(rows: Comparison, workload: Workload, machine: Machine, bptt: int) -> dict[str, Any]:
    """Return a comparison as plain values for JSON. Sizes are in bytes, losses in nats."""
    computed = ("perplexity", "tokens_per_second")
    return {
        "machine": asdict(machine),
        "workload": {"speed_and_size": workload.speed.origin, "loss": workload.loss.origin},
        "bptt": bptt,
        "rows": [asdict(row) | {name: getattr(row, name) for name in computed} for row in rows],
        "us_per_word_of_others": rows.us_per_word,
    }


def describe_environments(recording: Recording) -> list[str]:
    """Return a line for each environment, and one that says how the session measured."""
    lines = []
    for name, environment in recording.environments.items():
        machine = environment.machine
        parts = [f"{machine.cpu} ({machine.isa})", f"torch {machine.torch}", f"engine {machine.engine}"]
        if "int8-native" in environment.models:
            parts.append(f"kernels {machine.kernels}")
        parts += [f"Python {machine.python}", f"lstmq {environment.lstmq} in {environment.location}"]
        lines.append(f"{name}: {', '.join(parts)}")
        if environment.peak:
            lines.append(f"{name}: peak of one thread: {environment.peak}")
    sides = [(side.machine.torch, side.machine.python, side.location) for side in recording.environments.values()]
    if len(sides) == 2 and sides[0] == sides[1]:
        lines.append("here and there are the same environment: any difference comes from the machine")
    plan = recording.plan
    clock = "CPU time of the process" if plan.clock == "cpu" else f"wall time on {plan.threads} threads"
    lines.append(
        f"{len(recording.slices)} fresh processes of each environment, {plan.blocks} blocks of {plan.slices} slices in "
        f"each, {clock}"
    )
    lines += _describe_looks(recording)
    if plan.clock == "cpu" and not all(environment.pinned for environment in recording.environments.values()):
        lines.append("the system does not keep a process on one processor here, so the intervals are wide")
    return lines


def _describe_looks(recording: Recording) -> list[str]:
    """Return a line with the looks that were taken, and why the session went on after each."""
    looks = [
        f"after {blocks} blocks: {', '.join(figures) + ' undecided' if figures else 'all settled'}"
        for blocks, figures in zip(recording.plan.looks, recording.undecided, strict=False)
    ]
    planned = ", ".join(map(str, recording.plan.looks))
    return [f"looks planned after {planned} blocks; taken {'; '.join(looks)}"] if looks else []


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the verdicts as lines of text: a table, then the details. Control characters are shown as escapes."""
    detailed = [verdict for verdict in verdicts if verdict.details]
    notes = [show(f"{verdict.outcome}  {verdict.case} {verdict.metric}: {verdict.details}") for verdict in detailed]
    return [*text_table(VERDICT_HEADERS, map(_cells, verdicts)), *([""] if notes else []), *notes]


def _cells(verdict: Verdict) -> list[str]:
    """Return a row under :data:`VERDICT_HEADERS`."""
    return [verdict.outcome, verdict.question, verdict.case, verdict.metric, verdict.figure_text, verdict.limit]


def text_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines of text. Each column is as wide as its content."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        table.add_column(header, no_wrap=True)
    for row in rows:
        table.add_row(*map(show, row))
    # Cells hold text of other programs, so rich must not read it as markup, and must not cut it off.
    file = StringIO()
    Console(file=file, width=10_000, markup=False, emoji=False, color_system=None).print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def verdict_markdown(verdicts: Sequence[Verdict], notes: Sequence[str]) -> list[str]:
    """Return the verdicts as Markdown: the worst one and what to do about it, a table, and the notes as a list.

    The worst verdict comes first in the table too. Everything shows text as it is.
    """
    ordered = worst_first(verdicts)
    lines = [f"### lstmq: {worst(verdicts)}", ""]
    if ordered:
        lines += [f"**{escape_markdown(str(ordered[0]))}**", "", f"What to do: {what_to_do(ordered[0])}", ""]
    lines += [markdown_row([*VERDICT_HEADERS, ""]), "|---|---|---|---|---:|---|---|"]
    for verdict in ordered:
        outcome, *cells = map(escape_markdown, (*_cells(verdict), verdict.details))
        is_calm = verdict.outcome in (Outcome.PASS, Outcome.UNJUDGED)
        lines.append(markdown_row([outcome if is_calm else f"**{outcome}**", *cells]))
    return [*lines, "", *map(markdown_item, notes)]


def markdown_row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table. The cells are Markdown."""
    return f"| {' | '.join(cells)} |"


def conclusion(verdicts: Sequence[Verdict]) -> str:
    """Return the outcome of a session, what it means, and its exit code, in one line."""
    outcome = worst(verdicts)
    meaning = {
        Outcome.PASS: "every figure is within its limit",
        Outcome.FAIL: "a regression",
        Outcome.INCONCLUSIVE: "a limit lies inside an interval; measure more",
        Outcome.INVALID: "the machine is too noisy, or a figure is not a finite number",
        Outcome.NOT_MEASURED: "a gated figure was not measured",
    }[outcome]
    return f"{outcome}: {meaning} (exit code {outcome.exit_code})"
