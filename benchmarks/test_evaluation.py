"""Is each scheme still faster and smaller than float32, with the same loss?

Fresh processes time all models on the same slices, see :mod:`lstmq.gate.session`. The verdicts are those of
:mod:`lstmq.gate.judge`.
"""

from dataclasses import asdict

from lstmq.quantization import FLOAT32


def test_float32(benchmark, gate_timed, gate_facts, gate_judge_session):
    """The reference. Its ratio to its own copy shows how noisy the machine is."""
    run = gate_timed(FLOAT32)
    benchmark.extra_info.update(gate_facts, loss=run.fidelity(FLOAT32).loss, size=run.size(FLOAT32))
    benchmark.extra_info.update(ratio_to_its_copy=asdict(gate_judge_session()[0].figure))


def test_scheme(benchmark, gate_timed, gate_facts, gate_judge_scheme, scheme):
    run = gate_timed(scheme)
    figures = {metric: asdict(figure) for metric, figure in run.figures(scheme).items()}
    benchmark.extra_info.update(gate_facts, loss=run.fidelity(scheme).loss, size=run.size(scheme), **figures)
    gate_judge_scheme(scheme)
