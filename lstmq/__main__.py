"""Runs ``python -m lstmq``, which is the same as the ``lstmq`` command."""

from lstmq.cli import main

main(prog_name="lstmq")
