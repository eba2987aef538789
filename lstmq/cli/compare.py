"""``lstmq compare``: float32 and the schemes side by side."""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from lstmq import __version__
from lstmq.cli.options import FILE, Files, model_options, stream_options
from lstmq.cli.output import echo_beside
from lstmq.files import atomic_write, is_stdout, to_finite
from lstmq.progress import progress
from lstmq.quantization import ALL, SCHEMES, select_schemes

if TYPE_CHECKING:
    from lstmq.comparison import Comparison, Machine
    from lstmq.workload import Workload

MKLDNN_MATTERS = 1.2  # gains below it may be noise


@click.command("compare")
@model_options
@stream_options
@click.option("--workload", "spec", metavar="FILE.py:FUNCTION", help="Your own model: a function that returns it.")
@click.option(
    "--scheme",
    "schemes",
    type=click.Choice([ALL, *SCHEMES]),
    multiple=True,
    help="Scheme to measure. May be repeated. [every default scheme that is installed]",
)
@click.option("--keep", metavar="NAME", multiple=True, help="Module to keep in float32, such as rnn or encoder.*")
@click.option("--json", "json_file", type=FILE, help="Also write the figures to this file.")
def compare_command(
    *,
    engine: str | None,
    tokens: int | None,
    bptt: int,
    spec: str | None,
    schemes: tuple[str, ...],
    keep: tuple[str, ...],
    json_file: Path | None,
    **files: Unpack[Files],
) -> None:
    """Compare size, loss and speed of float32 and the quantized models.

    All models read each window in turn, so that other load on the machine affects them alike. Without options, speed
    and size are those of the tutorial's full shape on 5,000 tokens, and the loss is that of a small model trained on
    the bundled sample.
    """
    from rich.console import Console

    from lstmq import report
    from lstmq.comparison import compare, describe_machine
    from lstmq.workload import load_workload, user_errors

    line_out = echo_beside(json_file)
    console = Console(stderr=is_stdout(json_file))
    workload = load_workload(**files, tokens=tokens, spec=spec, keep=keep)
    console.print(workload.speed.model, highlight=False, markup=False)
    with atomic_write(json_file) if json_file else nullcontext() as json_path:  # fails now if it cannot be written
        selected, left_out = select_schemes(schemes, workload.speed.model)
        with progress("comparing", workload.speed.stream.tokens) as advance, user_errors(spec):
            rows = compare(workload, selected, bptt, engine, advance)
        machine = describe_machine(engine)
        table = report.comparison_table(rows)
        console.width = max(console.width, Console(width=1000).measure(table).maximum)  # a narrower terminal wraps
        console.print()
        console.print(table)
        console.print()
        notes = [*provenance(workload, machine, selected), report.describe_spread(rows)]
        notes += [*report.describe_words(rows), report.describe_setup(rows)]
        notes += [f"{row.name}: {row.coverage}" for row in rows if row.coverage]
        notes += [f"not measured: {name}, which needs {need}" for name, need in left_out.items()]
        notes += [f"not measured: {name}: {reason}" for name, reason in rows.left_out.items()]
        for line in (*notes, *mkldnn_note(rows)):
            line_out(line)
        if json_path:
            document = report.comparison_json(rows, workload, machine, bptt)
            json_path.write_text(
                json.dumps(to_finite(document | {"lstmq": __version__}), indent=2) + "\n", encoding="utf-8"
            )


def mkldnn_note(rows: "Comparison") -> Iterator[str]:
    """Yield a line if float32 itself is clearly faster with another setting of torch."""
    if rows.mkldnn_off and rows.mkldnn_off > MKLDNN_MATTERS:
        yield (
            f"float32 is torch's default, with mkldnn; with torch.backends.mkldnn.enabled = False, float32 itself is "
            f"{rows.mkldnn_off:.1f} times as fast here"
        )


def provenance(workload: "Workload", machine: "Machine", schemes: Sequence[str]) -> Iterator[str]:
    """Yield the lines below the table that say what was measured, and on which machine."""
    if workload.speed is workload.loss:
        yield f"measured on: {workload.speed.origin}"
    else:
        yield f"size and speed: {workload.speed.origin}"
        yield f"loss: {workload.loss.origin}"
    yield f"machine: {machine.cpu} ({machine.isa}), torch {machine.torch}, int8 engine {machine.engine}"
    if "int8-native" in schemes:
        yield f"int8-native: kernels {machine.kernels}"
    one = machine.threads == 1
    yield "seconds: CPU time of one thread" if one else f"seconds: wall time on {machine.threads} threads"
