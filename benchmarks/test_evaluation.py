"""Float32 and every scheme evaluate the same slices of the stream: is the scheme still faster, smaller and as right?"""

import pytest

from lstmq import SCHEMES, evaluate, model_size, quantize
from lstmq.comparison import clock

pytestmark = pytest.mark.benchmark(group="evaluate 100 tokens", timer=clock())


@pytest.fixture(scope="session")
def float32_loss(workload, facts):
    return evaluate(workload.loss.model, workload.loss.source, facts["bptt"])


def test_float32(benchmark, measure_speedup, workload, facts, float32_loss, judge):
    """The reference, against itself: how far from 1 is what this machine makes of no difference at all?"""
    model = workload.speed.model
    ratio = measure_speedup(*[lambda source: evaluate(model, source, facts["bptt"])] * 2)
    size = model_size(model)
    benchmark.extra_info.update(facts, ratio_to_itself=ratio.median)
    benchmark.extra_info.update(loss=float32_loss, size=size.total, parts=size.parts)
    judge("float32", ratio_to_itself=ratio.median)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scheme(benchmark, measure_speedup, workload, facts, float32_loss, judge, scheme):
    model, engine, bptt = workload.speed.model, facts["engine"], facts["bptt"]
    quantized = quantize(model, scheme, engine)
    speedup = measure_speedup(
        lambda source: evaluate(model, source, bptt),
        lambda source: evaluate(quantized, source, bptt),
    )
    size = model_size(quantized)
    loss = evaluate(quantize(workload.loss.model, scheme, engine), workload.loss.source, bptt)
    figures = {
        "speedup": speedup.median,
        "size_ratio": model_size(model).total / size.total,
        "loss_difference": loss - float32_loss,
    }
    benchmark.extra_info.update(facts, **figures, speedup_quartiles=[speedup.lower, speedup.upper])
    benchmark.extra_info.update(loss=loss, size=size.total, parts=size.parts)
    judge(scheme, **figures)
