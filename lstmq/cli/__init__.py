"""The ``lstmq`` command. Each subcommand is a module.

Subcommands import torch inside their functions, so that help, ``--version`` and shell completion start quickly.
"""

import sys
from typing import Any

import click

from lstmq import __version__
from lstmq.cli.compare import compare_command
from lstmq.cli.doctor import doctor_command
from lstmq.cli.evaluate import evaluate_command
from lstmq.cli.export import export_command
from lstmq.cli.fetch import fetch_command
from lstmq.cli.gate import gate_command
from lstmq.cli.generate import generate_command
from lstmq.cli.init import init_command
from lstmq.cli.output import echo, safe_output
from lstmq.cli.quantize import quantize_command
from lstmq.cli.report import report_command
from lstmq.cli.train import train_command


class OneLineErrors(click.Group):
    """A group that prints an error as one line and exits with code 2. An interrupt exits with code 130."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        with safe_output():
            self._main(*args, **kwargs)

    def _main(self, *args: Any, **kwargs: Any) -> None:
        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            message = error.format_message()
        except click.Abort:
            click.echo("lstmq: interrupted", err=True)
            sys.exit(130)
        except (ValueError, OSError) as error:
            message = str(error)
        except (RuntimeError, MemoryError) as error:  # such as torch's, if the model does not fit into memory
            message = str(error).partition("\n")[0] or type(error).__name__
        echo(f"lstmq: error: {' '.join(message.split())}", err=True)
        sys.exit(2)


@click.group(cls=OneLineErrors, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="lstmq %(version)s")
def main() -> None:
    """Compare, gate, train and export LSTM language models in float32 and int8."""


for command in (
    compare_command,
    init_command,
    gate_command,
    report_command,
    evaluate_command,
    generate_command,
    export_command,
    quantize_command,
    train_command,
    fetch_command,
    doctor_command,
):
    main.add_command(command)
