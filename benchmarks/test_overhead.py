"""Is ``evaluate`` as cheap as the model calls and the loss that it cannot do without?"""

import ctypes
import sys

import pytest
import torch
import torch.nn.functional as F

from lstmq import evaluate
from lstmq.comparison.paired import clock


def bare_loop(model, stream, bptt):
    """Read the stream with nothing around the model and the loss."""
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

    A window's logits are 3 MB. Whether they are given back to the system and taken anew is decided by what else lies on
    the heap, not by the loop, and it makes 4 % of either side's time.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # glibc's
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**25)


@pytest.mark.usefixtures("steady_heap")
@pytest.mark.benchmark(group="overhead of evaluate", timer=clock())
def test_evaluate(benchmark, measure_ratio, workload, facts, judge):
    model, bptt = workload.speed.model, facts["bptt"]
    ratio = measure_ratio(
        lambda stream: evaluate(model, stream, bptt),
        lambda stream: bare_loop(model, stream, bptt),
        pairs=70,  # the more, the less noise
    )
    benchmark.extra_info.update(facts, overhead=ratio.median, overhead_interval=[ratio.lower, ratio.upper])
    judge("evaluate", overhead=ratio)
