"""Float32 and every scheme, timed on the same slices: is the scheme still faster, smaller and as right?

The times are of fresh processes, which :mod:`lstmq.session` asks in turn; the verdicts are :mod:`lstmq.gate`'s.
"""

from dataclasses import asdict

from lstmq.gate.processes import HERE
from lstmq.quantization.schemes import FLOAT32


def test_float32(benchmark, timed, facts, judge_session):
    """The reference, and its copy: how far from 1 is what this machine makes of no difference at all?"""
    run = timed(FLOAT32)
    benchmark.extra_info.update(facts, loss=run.fidelity(HERE, FLOAT32).loss)
    benchmark.extra_info.update(size=run.size(HERE, FLOAT32), ratio_to_its_copy=asdict(judge_session()[0].figure))


def test_scheme(benchmark, timed, facts, judge_scheme, scheme):
    run = timed(scheme)
    figures = {metric: asdict(figure) for metric, figure in run.figures(scheme).items()}
    benchmark.extra_info.update(facts, loss=run.fidelity(HERE, scheme).loss, size=run.size(HERE, scheme), **figures)
    judge_scheme(scheme)
