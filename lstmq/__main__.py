"""``python -m lstmq`` is ``lstmq``."""

from lstmq.cli import main

main(prog_name="lstmq")
