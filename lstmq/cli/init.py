"""``lstmq init``: write the limits and the tests of a gate for a model, or measure its limits again."""

import sys
from pathlib import Path

import click

from lstmq.cli.options import FILE
from lstmq.cli.output import echo
from lstmq.files import atomic_write

EXAMPLE_FOLDER = Path("gate")


@click.command("init")
@click.argument("workload", metavar="[FILE.py:FUNCTION]", required=False)
@click.option("--update", type=FILE, metavar="LIMITS", help="Measure these limits again, show what changes, and ask.")
@click.option("--yes", is_flag=True, help="With --update: write without asking.")
def init_command(*, workload: str | None, update: Path | None, yes: bool) -> None:
    """Write a gate for your model: limits.toml and test_gate.py, beside FILE.py.

    FUNCTION returns what to measure, an lstmq.Workload. Without it, writes an example to start from, gate/mine.py, and
    the gate for it. Measures once, in about a minute. Then run `pytest` on the folder.
    """
    if update:
        if workload:
            raise click.UsageError("--update takes the workload from the limits: leave out FILE.py:FUNCTION")
        _update(update, yes)
        return
    from lstmq.gating import initial

    if not workload:
        workload = initial.write_example(EXAMPLE_FOLDER)
        echo(f"wrote {workload.rpartition(':')[0]}, an example: put your own model there")
    gate = initial.write_gate(workload, f"lstmq init {workload}")
    machine = gate.run.machine
    echo(f"measured {workload} on {machine.cpu} ({machine.isa}), torch {machine.torch}")
    for scheme, reason in gate.left_out.items():
        echo(f"left out: {scheme}, which needs {reason}")
    for line in initial.describe_limits(gate.run):
        echo(line)
    echo(f"wrote {' and '.join(map(str, gate.files))}: run `pytest {gate.files[0].parent}`")


def _update(path: Path, yes: bool) -> None:
    """Measure limits again, show the difference, and write it."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--update asks before it writes, and cannot ask here: use --yes")
    from lstmq import report
    from lstmq.gating import initial

    text, changes, run = initial.measure_again(path, f"lstmq init --update {path}")
    rows = [[change.case, change.metric, str(change.before), str(change.after)] for change in changes]
    echo(f"{path}, measured again on {run.machine.cpu} ({run.machine.isa}), torch {run.machine.torch}")
    for line in report.text_table(["scheme", "metric", "limit now", "new limit"], rows):
        echo(line)
    if not yes and not click.confirm(f"Write these to {path}?"):
        echo("nothing was written")
        return
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    echo(f"wrote {path}")
