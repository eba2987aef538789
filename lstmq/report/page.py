"""Runs side by side as text, as Markdown, and as one HTML file with nothing outside it."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Template

from lstmq import __version__
from lstmq.report.charts import SUMMARY_CHARTS, Tables, chart_svg
from lstmq.report.history import SchemeSummary, changed_figures, describe_changes
from lstmq.report.tables import markdown_row, text_table

HEADERS = ("torch", "speedup", "us/token", "float32's", "smaller", "bytes", "loss", "change", "KL", "runs", "verdict")
MARKS = {"speedup": "speedup", "bytes": "size", "loss": "loss"}  # columns that say what moved


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text, and what ``kind`` it is of: ``moved`` against the first row, an outcome, or nothing."""

    report_text: str
    kind: str = ""


def cells(table: Sequence[SchemeSummary]) -> list[list[Cell]]:
    """Return the rows of a table of one scheme, a cell for each of :data:`HEADERS`."""
    rows = []
    first = next((each for each in table if each.measured), table[0])
    for each in table:
        differs = changed_figures(first, each)
        told = dict.fromkeys(HEADERS, "")
        told |= {"torch": each.torch, "runs": str(each.runs), "verdict": each.reason or _verdict(each)}
        if each.measured:
            told |= {
                "speedup": f"{each.speedup.median:.2f} [{each.speedup.lower:.2f}, {each.speedup.upper:.2f}]",
                "us/token": f"{each.us:.1f}",
                "float32's": f"{each.us_float32:.1f}",
                "smaller": f"{each.size_ratio:.3f}x",
                "bytes": f"{each.size:,}",
                "loss": f"{each.loss:.6f}",
                "change": f"{each.loss - each.loss_float32:+.6f}",
                "KL": "" if math.isnan(each.kl) else f"{each.kl:.2e}",
            }
        kinds = {header: "moved" for header in HEADERS if MARKS.get(header) in differs} | {"verdict": str(each.outcome)}
        rows.append([Cell(text=told[header], kind=kinds.get(header, "")) for header in HEADERS])
    return rows


def _verdict(each: SchemeSummary) -> str:
    """Return the outcome by the floors, and the session's if that was another (a baseline, another scheme)."""
    return each.outcome.value if each.run_outcome in ("", each.outcome) else f"{each.outcome} (run: {each.run_outcome})"


def heading(table: Sequence[SchemeSummary]) -> str:
    """Return what rows that may be compared have in common."""
    conditions = dict(table[0].conditions)
    return (
        f"{table[0].where}, {conditions['threads']} thread{'s' * (conditions['threads'] != '1')}, "
        f"engine {conditions['engine']}, workload {conditions['workload']}, window {conditions['window']}, "
        f"slices of {conditions['slice']}"
    )


def sentences(group: Tables) -> list[str]:
    """Return what changed in any of the tables, each sentence once (float32's is in all of them)."""
    return [*dict.fromkeys(sentence for table in group for sentence in describe_changes(table))] or ["nothing changed"]


def report_text(groups: Sequence[Tables]) -> list[str]:
    """Return the tables as lines of text; what moved has a star."""
    lines = []
    for group in groups:
        lines += [heading(group[0]), *(f"- {each}" for each in sentences(group))]
        for table in group:
            rows = [[cell.text + "*" * (cell.kind == "moved") for cell in row] for row in cells(table)]
            lines += ["", f"{table[0].scheme}:", *text_table(HEADERS, rows)]
        lines.append("")
    return [*lines, "*: differs from the first row, speed by more than both intervals"]


def report_markdown(groups: Sequence[Tables]) -> list[str]:
    """Return the tables as Markdown; what moved is bold."""
    lines = []
    for group in groups:
        lines += [f"### {heading(group[0])}", "", *(f"- {each}" for each in sentences(group))]
        for table in group:
            lines += ["", f"**{table[0].scheme}**", "", markdown_row(HEADERS)]
            lines.append(f"|---|{'---:|' * (len(HEADERS) - 3)}---|---|")
            for row in cells(table):
                told = (f"**{cell.text}**" if cell.kind in ("moved", "FAIL") else cell.text for cell in row)
                lines.append(markdown_row(told))
        lines.append("")
    return lines


def report_html(groups: Sequence[Tables], title: str) -> str:
    """Return the page: tables, what changed, plots for light and for dark. It needs matplotlib."""

    def encoded(name: str, group: Tables, dark: bool) -> str:
        return base64.b64encode(chart_svg(name, group, dark)).decode()

    told = [
        {
            "heading": heading(group[0]),
            "sentences": sentences(group),
            "tables": [{"scheme": table[0].scheme, "rows": cells(table)} for table in group],
            "plots": [
                {"name": name, "light": encoded(name, group, dark=False), "dark": encoded(name, group, dark=True)}
                for name in SUMMARY_CHARTS
            ],
        }
        for group in groups
    ]
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    page = Template(template, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    rendered: str = page.render(title=title, headers=HEADERS, groups=told, version=__version__)
    return rendered
