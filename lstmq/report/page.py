"""Summaries of saved runs as text, as Markdown, and as one HTML file that needs no other file."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Template

from lstmq import __version__
from lstmq.escaping import escape_markdown, markdown_item, show
from lstmq.report.advice import upgrade_sentence
from lstmq.report.plots import PLOTS, Tables, plot_svg
from lstmq.report.summaries import SchemeSummary, changed_figures, describe_changes
from lstmq.report.tables import markdown_row, text_table

HEADERS = ("torch", "speedup", "us/token", "float32's", "smaller", "bytes", "loss", "change", "KL", "runs", "verdict")
MARKED = {"speedup": "speedup", "bytes": "size", "loss": "loss"}  # columns that mark a changed figure
CHANGED = "changed"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: its text, in one line.
        kind: ``changed`` if the figure differs from the first row, an outcome, or empty.
    """

    text: str
    kind: str = ""


def table_cells(table: Sequence[SchemeSummary]) -> list[list[Cell]]:
    """Return the rows of a table of one scheme, with a cell for each of :data:`HEADERS`."""
    first = next((row for row in table if row.is_measured), table[0])
    rows = []
    for row in table:
        changed = changed_figures(first, row)
        texts = dict.fromkeys(HEADERS, "")
        texts |= {"torch": row.torch, "runs": str(row.runs), "verdict": row.reason or _verdict(row)}
        if row.is_measured:
            texts |= {
                "speedup": f"{row.speedup.median:.2f} [{row.speedup.lower:.2f}, {row.speedup.upper:.2f}]",
                "us/token": f"{row.us:.1f}",
                "float32's": f"{row.us_float32:.1f}",
                "smaller": f"{row.size_ratio:.3f}x",
                "bytes": f"{row.size:,}",
                "loss": f"{row.loss:.6f}",
                "change": f"{row.loss - row.loss_float32:+.6f}",
                "KL": "" if math.isnan(row.kl) else f"{row.kl:.2e}",
            }
        kinds = {header: CHANGED for header, figure in MARKED.items() if figure in changed}
        kinds["verdict"] = str(row.outcome)
        rows.append([Cell(text=show(texts[header]), kind=kinds.get(header, "")) for header in HEADERS])
    return rows


def _verdict(row: SchemeSummary) -> str:
    """Return the outcome by the limits, and the outcome of the run if it differs because of a baseline, for example."""
    is_same = row.run_outcome in ("", row.outcome)
    return row.outcome.value if is_same else f"{row.outcome} (run: {row.run_outcome})"


def heading(table: Sequence[SchemeSummary]) -> str:
    """Return the conditions that comparable rows share, without the processor."""
    conditions = table[0].conditions
    return (
        f"{conditions.threads} thread{'s' * (conditions.threads != 1)}, engine {conditions.engine}, "
        f"kernels {conditions.kernels}, workload {conditions.workload}, window {conditions.window}, "
        f"slices of {conditions.slice}"
    )


def group_by_processor(groups: Sequence[Tables]) -> list[tuple[str, list[Tables]]]:
    """Return the groups of each processor. Figures of speed are facts about a processor."""
    processors: dict[str, list[Tables]] = {}
    for group in groups:
        processors.setdefault(group[0][0].machine, []).append(group)
    return [*processors.items()]


def change_sentences(group: Tables) -> list[str]:
    """Return what changed in any table of a group. Each sentence appears once, because all tables share float32."""
    sentences = dict.fromkeys(sentence for table in group for sentence in describe_changes(table))
    peaks = {row.torch: row.peak for table in group for row in table if row.peak}
    shown = [f"peak of one thread in the run with torch {torch}: {peak}" for torch, peak in peaks.items()]
    return [*sentences, *shown] if sentences else ["nothing changed", *shown]


def report_text(groups: Sequence[Tables]) -> list[str]:
    """Return the tables as lines of text. A star marks a changed figure, and control characters are escapes."""
    lines = [upgrade_sentence(groups), ""]
    for processor, of_processor in group_by_processor(groups):
        lines += [processor, "=" * len(show(processor))]
        for group in of_processor:
            lines += [heading(group[0]), *(f"- {sentence}" for sentence in change_sentences(group))]
            for table in group:
                rows = [[cell.text + "*" * (cell.kind == CHANGED) for cell in row] for row in table_cells(table)]
                lines += ["", f"{table[0].scheme}:", *text_table(HEADERS, rows)]
            lines.append("")
    return [*map(show, lines), "*: differs from the first row; for speed, the intervals are apart"]


def report_markdown(groups: Sequence[Tables]) -> list[str]:
    """Return the tables as lines of Markdown, which shows text as it is. A changed figure is bold."""
    lines = [f"**{escape_markdown(upgrade_sentence(groups))}**", ""]
    for processor, of_processor in group_by_processor(groups):
        lines += [f"### {escape_markdown(processor)}", ""]
        for group in of_processor:
            lines += [f"#### {escape_markdown(heading(group[0]))}", "", *map(markdown_item, change_sentences(group))]
            for table in group:
                lines += ["", f"**{escape_markdown(table[0].scheme)}**", "", markdown_row(HEADERS)]
                lines.append(f"|---|{'---:|' * (len(HEADERS) - 3)}---|---|")
                lines += [markdown_row(map(_markdown_cell, row)) for row in table_cells(table)]
            lines.append("")
    return lines


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return f"**{text}**" if cell.kind in (CHANGED, "FAIL") else text


def report_html(groups: Sequence[Tables], title: str) -> str:
    """Return the tables, the changes and the plots as an HTML page with a light and a dark theme. Needs matplotlib."""

    def image(name: str, group: Tables, dark: bool) -> str:
        return base64.b64encode(plot_svg(name, group, dark)).decode()

    def section(group: Tables) -> dict[str, object]:
        return {
            "heading": show(heading(group[0])),
            "sentences": [show(sentence) for sentence in change_sentences(group)],
            "tables": [{"scheme": show(table[0].scheme), "rows": table_cells(table)} for table in group],
            "plots": [
                {"name": name, "light": image(name, group, dark=False), "dark": image(name, group, dark=True)}
                for name in PLOTS
            ],
        }

    processors = [
        {"name": show(processor), "groups": [section(group) for group in of_processor]}
        for processor, of_processor in group_by_processor(groups)
    ]
    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    template = Template(source, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page: str = template.render(
        title=title, advice=show(upgrade_sentence(groups)), headers=HEADERS, processors=processors, version=__version__
    )
    return page
