"""Rows of a comparison, as a table for the terminal and as JSON; verdicts of the gate, as lines and as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from lstmq.comparison import ComparisonRow
from lstmq.gate import Outcome, Recording, Verdict, worst

HEADERS = ("MB", "smaller", "loss", "change", "perplexity", "seconds", "tokens/s", "faster")


def comparison_table(rows: Sequence[ComparisonRow]) -> Table:
    """Return the rows as a table that fits 80 columns; the first row is what the others are measured against."""
    result = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 0, 0, 1))
    result.add_column("", no_wrap=True)
    for header in HEADERS:
        result.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        result.add_row(
            row.name,
            f"{row.size.megabytes:.2f}",
            f"{row.size_ratio:.2f}x",
            f"{row.loss:.4f}",
            f"{row.loss_difference:+.4f}",
            "" if row.perplexity is None else f"{row.perplexity:,.2f}",
            f"{row.seconds:.1f}",
            f"{row.tokens_per_second:,.0f}",
            f"{row.speedup.median:.2f}x",
        )
    return result


def describe_spread(rows: Sequence[ComparisonRow]) -> str:
    """Return how far the windows' ratios lie apart, in words."""
    quartiles = (f"{row.name} {row.speedup.lower:.2f}-{row.speedup.upper:.2f}" for row in rows[1:])
    return (
        f"faster: the median of float32's seconds over this one's, window by window; half lie in {', '.join(quartiles)}"
    )


def describe_setup(rows: Sequence[ComparisonRow]) -> str:
    """Return how long each model took before it could be timed, in words."""
    seconds = ", ".join(f"{row.name} {row.ready:.1f} s" for row in rows[1:])
    return f"ready (made, compiled if it is, and one window read) after: {seconds}"


def as_json(rows: Sequence[ComparisonRow], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows after ``facts`` about the run, in what ``json`` can write; sizes in bytes, losses in nats."""
    computed = ("perplexity", "tokens_per_second")
    return {**facts, "rows": [asdict(row) | {name: getattr(row, name) for name in computed} for row in rows]}


def describe_environments(recording: Recording) -> list[str]:
    """Return a line on what each environment is, and one on how it was measured."""
    lines, sides = [], []
    for name, told in recording.environments.items():
        machine = told["machine"]
        where = f"{machine['cpu']} ({machine['isa']}), torch {machine['torch']}, engine {machine['engine']}"
        where += f", kernels {machine['native']}" if "int8-native" in told["models"] else ""
        lines.append(f"{name}: {where}, Python {machine['python']}, lstmq {told['lstmq']} in {told['place']}")
        sides.append((machine["torch"], machine["python"], told["place"]))
    if len(sides) == 2 and sides[0] == sides[1]:
        lines.append("here and there are one and the same: what differs is the machine's doing")
    plan = recording.plan
    more = f" and {plan['more']} more, quantized," if plan["more"] else ""
    clock = "CPU time of one thread" if plan["clock"] == "cpu" else f"wall time on {plan['threads']} threads"
    lines.append(
        f"{plan['workers']} fresh processes of each, {plan['pairs']} slices{more} in each process, "
        f"{clock}; in brackets, intervals of 99 % over processes"
    )
    if plan["clock"] == "cpu" and not all(told["pinned"] for told in recording.environments.values()):
        lines.append("processes were not kept on one processor, as this system cannot or may not: intervals are wide")
    return lines


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the verdicts as a table in lines of text; what there is to say of them is below it."""
    rows = [(each.outcome, each.question, each.case, each.metric, each.shown, each.limit) for each in verdicts]
    lines = text_table(("verdict", "question", "of", "metric", "figure", "limit"), rows)
    notes = [f"{each.outcome}  {each.case} {each.metric}: {each.details}" for each in verdicts if each.details]
    return [*lines, *([""] if notes else []), *notes]


def text_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table in lines of text, each column as wide as it needs to be."""
    comparison_table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        comparison_table.add_column(header, no_wrap=True)
    for row in rows:
        comparison_table.add_row(*row)
    # Words of other programs are in it: nothing is markup, nothing is cut off, and it is as wide as it is.
    console = Console(file=StringIO(), width=10_000, markup=False, emoji=False, color_system=None)
    console.print(comparison_table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined] # a StringIO


def verdict_markdown(verdicts: Sequence[Verdict], notes: Sequence[str]) -> list[str]:
    """Return the verdicts as a Markdown table under a heading, with what they are of below it."""
    lines = [f"### lstmq: {worst(verdicts)}", "", "| verdict | question | of | metric | figure | limit | |"]
    lines.append("|---|---|---|---|---:|---|---|")
    for each in verdicts:
        mark = each.outcome if each.outcome in (Outcome.PASS, Outcome.UNJUDGED) else f"**{each.outcome}**"
        cells = (mark, each.question, each.case, each.metric, each.shown, each.limit, each.details)
        lines.append(markdown_row(cells))
    return [*lines, "", *(f"- {note}" for note in notes)]


def markdown_row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table, whatever is in its cells."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def conclusion(verdicts: Sequence[Verdict]) -> str:
    """Return the session's outcome, what it means and its exit code, in a line."""
    outcome = worst(verdicts)
    meaning = {
        Outcome.PASS: "every figure clears its limit",
        Outcome.FAIL: "a regression",
        Outcome.INCONCLUSIVE: "no regression, and no pass: a limit lies inside an interval; measure more",
        Outcome.INVALID: "this machine is too noisy to judge now",
        Outcome.NOT_MEASURED: "something that is gated was not measured",
    }[outcome]
    return f"{outcome}: {meaning} (exit code {outcome.exit_code})"
