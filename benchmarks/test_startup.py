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


@pytest.mark.benchmark(group="start the command", timer=children_cpu_time)
def test_help(benchmark, gate_ratio, gate_facts, gate_judge_case):
    """The reference imports click, which the command needs to parse its arguments."""
    ratio = gate_ratio(
        lambda _: run_python("-m", "lstmq", "--help"),
        lambda _: run_python("-c", "import click"),
        pairs=12,
        clock=children_cpu_time,
    )
    benchmark.extra_info.update(gate_facts, over_click=ratio.median, over_click_interval=[ratio.lower, ratio.upper])
    gate_judge_case("startup", over_click=ratio)
