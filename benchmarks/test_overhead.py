"""Is ``evaluate`` as cheap as the model calls and the loss that it cannot do without?"""

import pytest
import torch
import torch.nn.functional as F

from lstmq import evaluate
from lstmq.comparison import clock


def bare_loop(model, source, bptt):
    """Read the stream with nothing around the model and the loss."""
    steps, total, hidden = len(source) - 1, 0.0, model.init_hidden(1)
    with torch.inference_mode():
        for i in range(0, steps, bptt):
            n = min(bptt, steps - i)
            logits, hidden = model(source[i : i + n], hidden)
            total += F.cross_entropy(logits.view(n, -1), source[i + 1 : i + 1 + n, 0], reduction="sum").item()
    return total / steps


@pytest.mark.benchmark(group="overhead of evaluate", timer=clock())
def test_evaluate(benchmark, measure_ratio, workload, facts, judge):
    model, bptt = workload.speed.model, facts["bptt"]
    ratio = measure_ratio(
        lambda source: evaluate(model, source, bptt),
        lambda source: bare_loop(model, source, bptt),
        tokens=300,  # it is of the loop, not of what evaluate does once
    )
    benchmark.extra_info.update(facts, overhead=ratio.median, overhead_quartiles=[ratio.lower, ratio.upper])
    judge("evaluate", overhead=ratio.median)
