"""Is each scheme still faster and smaller than float32, with the same loss?

Fresh processes time all models on the same slices, see :mod:`lstmq.gate.session`. The verdicts are those of
:mod:`lstmq.gate.judge`.
"""


def test_float32(gate_judge):
    """The reference. Its ratio to its own copy shows how noisy the machine is."""
    gate_judge("float32")


def test_scheme(gate_judge, gate_scheme):
    gate_judge(gate_scheme)
