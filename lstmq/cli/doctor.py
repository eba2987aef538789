"""``lstmq doctor``: what this machine is and can do."""

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import click

from lstmq import __version__
from lstmq.cli.options import FILE
from lstmq.cli.output import echo_beside
from lstmq.files import atomic_write, to_finite


@click.command("doctor")
@click.option("--json", "json_file", type=FILE, help="Also write what it finds to this file.")
def doctor_command(*, json_file: Path | None) -> None:
    """Show what a bug report needs, and how near the kernels come to what the processor can do at most.

    Takes up to ten seconds. The exit code is 1 if a kernel computes wrong bits, or seems to be faster than its
    instructions allow.
    """
    from lstmq import report
    from lstmq.doctor import diagnose

    line_out = echo_beside(json_file)
    with atomic_write(json_file) if json_file else nullcontext() as json_path:  # fails now if it cannot be written
        diagnosis = diagnose()
        for line in report.diagnosis_lines(diagnosis):
            line_out(line)
        if json_path:
            document = to_finite(asdict(diagnosis) | {"lstmq": __version__})
            json_path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if diagnosis.faults:
        sys.exit(1)
