"""Does ``evaluate`` cost more than the model calls and the loss that it needs?"""

import ctypes
import sys

import pytest
import torch
import torch.nn.functional as F

from lstmq import evaluate
from lstmq.comparison import clock


def bare_loop(model, stream, bptt):
    """Evaluate the stream with nothing around the model and the loss."""
    words, targets = stream.inputs, stream.targets[:, 0]
    steps, total, hidden = len(words), 0.0, model.init_hidden(1)
    with torch.inference_mode():
        for i in range(0, steps, bptt):
            n = min(bptt, steps - i)
            logits, hidden = model(words[i : i + n], hidden)
            total += F.cross_entropy(logits.view(n, -1), targets[i : i + n], reduction="sum").item()
    return total / steps


@pytest.fixture
def steady_heap():
    """Keep freed memory in the process, where the C library can.

    The logits of a window take 3 MB. Whether the C library returns them to the system and gets them back depends on
    what else is on the heap, and changes the time of either side by 4 %.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # glibc's
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**25)


@pytest.mark.usefixtures("steady_heap")
@pytest.mark.benchmark(group="overhead of evaluate")
def test_evaluate(benchmark, gate_judge_ratio, gate_workload, gate_facts):
    model, stream, bptt = gate_workload.speed.model, gate_workload.speed.stream, gate_facts["bptt"]
    starts = range(0, len(stream) - bptt + 1, bptt)

    def part(number):
        return stream.slice(starts[number % len(starts)], bptt)

    benchmark.extra_info.update(gate_facts, tokens=bptt)
    gate_judge_ratio(
        "evaluate",
        "overhead",
        lambda number: evaluate(model, part(number), bptt),
        lambda number: bare_loop(model, part(number), bptt),
        clock=clock(),
        pairs=4,
    )
