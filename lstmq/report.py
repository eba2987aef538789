"""Rows of a comparison, as a table for the terminal and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from lstmq.comparison import Row

HEADERS = ("size MB", "smaller", "loss", "change", "perplexity", "seconds", "tokens/s", "faster")


def table(rows: Sequence[Row]) -> Table:
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
            f"{row.perplexity:,.2f}",
            f"{row.seconds:.1f}",
            f"{row.tokens_per_second:,.0f}",
            f"{row.speedup.median:.2f}x",
        )
    return result


def spread(rows: Sequence[Row]) -> str:
    """Return how far the windows' ratios lie apart, in words."""
    quartiles = (f"{row.name} {row.speedup.lower:.2f}-{row.speedup.upper:.2f}" for row in rows[1:])
    return (
        f"faster: the median of float32's seconds over this one's, window by window; half lie in {', '.join(quartiles)}"
    )


def as_json(rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows after ``facts`` about the run, in what ``json`` can write; sizes in bytes, losses in nats."""
    computed = ("perplexity", "tokens_per_second")
    return {**facts, "rows": [asdict(row) | {name: getattr(row, name) for name in computed} for row in rows]}
