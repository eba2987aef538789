"""Runs pytest for each line of standard input, and prints its exit code.

Each run is a fork of this process, which has already imported torch and lstmq. That saves seconds per run. So is each
worker, on Linux. A line is a JSON object with the arguments of :func:`run`.
"""

import gc
import json
import os
import signal
import sys

import broken_worker
import pytest
from fork_worker import SOCKET, start_server

from lstmq import load_workload  # noqa: F401 - imported for the runs
from lstmq.gate import judge_run, measure, read_run, select_baseline  # noqa: F401 - likewise
from lstmq.report import plot_run, verdict_lines  # noqa: F401 - likewise

TIMEOUT = 100  # seconds


def run(arguments, folder, variables, stdout, stderr):
    """Run pytest in this process, and end it.

    Args:
        arguments: the command line.
        folder: the working directory.
        variables: further environment variables.
        stdout: the file for standard output.
        stderr: the file for standard error.
    """
    signal.alarm(TIMEOUT)
    os.chdir(folder)
    os.environ.update(variables)
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), descriptor)
    sys.exit(pytest.main(arguments))


gc.freeze()  # keeps the collector of the forks away from what they share
workers = start_server(os.environ[SOCKET], broken_worker.main) if SOCKET in os.environ else None
for line in sys.stdin:
    if not (process := os.fork()):
        run(**json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)  # noqa: T201
if workers:
    os.kill(workers, signal.SIGTERM)
