"""``lstmq compare``: float32 and every scheme, side by side."""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Unpack

import click
import torch
from rich.console import Console

from lstmq import __version__
from lstmq.cli.options import FILE, Files, model_options, progress, stream_options
from lstmq.comparison import compare, describe_machine
from lstmq.files import atomic_write
from lstmq.quantization import ALL, SCHEMES, select_schemes
from lstmq.report import tables
from lstmq.workload import Workload, load_workload, user_errors


@click.command("compare")
@model_options
@stream_options
@click.option("--workload", "place", metavar="FILE.py:FUNCTION", help="A model of your own: what the function returns.")
@click.option(
    "--scheme",
    "schemes",
    type=click.Choice([ALL, *SCHEMES]),
    multiple=True,
    help="May be repeated; all: of every engine. [the quickly made]",
)
@click.option("--json", "json_file", type=FILE, help="Write the figures to this file, too.")
def compare_command(
    *,
    threads: int,
    engine: str | None,
    tokens: int | None,
    bptt: int,
    place: str | None,
    schemes: tuple[str, ...],
    json_file: Path | None,
    **files: Unpack[Files],
) -> None:
    """Print size, loss and speed, float32 and quantized.

    All models read each window in turn, so that a busy machine hurts them alike. Without options it runs on what is
    embedded: it times 5,000 tokens through the tutorial's full shape, and takes the loss of a small model trained
    on the sample.
    """
    torch.set_num_threads(threads)
    console = Console()
    workload = load_workload(**files, tokens=tokens, place=place)
    console.print(workload.speed.model, highlight=False, markup=False)
    with atomic_write(json_file) if json_file else nullcontext() as json_path:  # an unwritable place is found out now
        chosen, left_out = select_schemes(schemes, workload.speed.model)
        with progress("comparing", workload.speed.stream.places) as advance, user_errors(place):
            rows = compare(workload, chosen, bptt, engine, advance)
        machine = describe_machine(engine)
        table = tables.comparison_table(rows)
        console.width = max(console.width, Console(width=1000).measure(table).maximum)  # a narrower terminal wraps
        console.print()
        console.print(table)
        console.print()
        without = [f"not measured: {name}, which needs {need}" for name, need in left_out.items()]
        for line in (
            *provenance(workload, machine, chosen),
            tables.describe_spread(rows),
            tables.describe_setup(rows),
            *without,
        ):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if json_path:
            origins = {"speed_and_size": workload.speed.origin, "loss": workload.loss.origin}
            facts = {"lstmq": __version__, "machine": machine, "workload": origins, "bptt": bptt}
            json_path.write_text(json.dumps(tables.as_json(rows, facts), indent=2) + "\n", encoding="utf-8")


def provenance(workload: Workload, machine: dict[str, str | int], schemes: Sequence[str]) -> Iterator[str]:
    """Yield the lines below the table: what was measured on what."""
    if workload.speed is workload.loss:
        yield f"measured on: {workload.speed.origin}"
    else:
        yield f"size and speed: {workload.speed.origin}"
        yield f"loss: {workload.loss.origin}"
    yield f"machine: {machine['cpu']} ({machine['isa']}), torch {machine['torch']}, int8 engine {machine['engine']}"
    if "int8-native" in schemes:
        yield f"int8-native: computed by {machine['native']}"
    one = machine["threads"] == 1
    yield "seconds: CPU time of one thread" if one else f"seconds: wall time on {machine['threads']} threads"
