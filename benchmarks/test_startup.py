"""Does ``lstmq --help`` start without importing torch?"""

import subprocess
import sys
import time

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None


def children_cpu_time():
    """Return the CPU time of all finished child processes, in seconds; wall time where the system does not tell it."""
    if resource is None:
        return time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_python(*arguments):
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.benchmark(group="start the command")
def test_help(benchmark, gate_judge_ratio, gate_facts):
    """The reference imports click, which the command needs to parse its arguments."""
    benchmark.extra_info.update(gate_facts)
    gate_judge_ratio(
        "startup",
        "over_click",
        lambda _: run_python("-m", "lstmq", "--help"),
        lambda _: run_python("-c", "import click"),
        clock=children_cpu_time,
        pairs=1,
    )
