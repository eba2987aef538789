"""The law of each stage of a kernel: it returns the same bits as the reference.

The kernels are those that run here, the emulated ones, and those of another processor, if ``conftest.py`` finds an
emulator and a compiler for it.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmq.quantization.native import reference
from lstmq.quantization.native.packing import BLOCK, DEPTH, GROUP, pack_matrix
from lstmq.quantization.native.reference import sigmoid, tanh
from lstmq.quantization.native.weights import QuantizedRows, RecurrentWeights
from strategies import seeds

pytestmark = pytest.mark.slow
# The fixture selects a kernel; examples do not change it.
one_kernel = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
LANES = 16  # sums of exponentials that csrc/elementwise.h keeps


def random_floats(seed, *shape, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


@one_kernel
@given(
    width=st.integers(1, 200),
    seed=seeds,
    scale=st.sampled_from([0.0, 1e-38, 1e-31, 1.0, 1e30, torch.inf, torch.nan]),
    ties=st.booleans(),
)
def test_kernel_quantizes_a_row_as_the_reference_does(run_stage, width, seed, scale, ties):
    x = random_floats(seed, 1, width, scale=scale)
    if ties:  # every value is halfway between two integers
        x = torch.randint(-127, 127, (1, width), generator=torch.Generator().manual_seed(seed)) + 0.5
        x[0, 0] = 127
    padded = -(-width // DEPTH) * DEPTH
    integers, found = torch.full((padded,), 99, dtype=torch.int8), torch.zeros(1)
    run_stage("quantize_row", x, width, padded, integers, found)
    expected = reference.quantize_rows(x)
    assert torch.equal(integers[:width], expected.integers[0])
    assert not integers[width:].any()
    assert torch.equal(found.view(torch.int32), expected.scale.view(torch.int32))  # NaN is not equal to itself


@one_kernel
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 200) | st.sampled_from([512, 513, 1_100]),  # AVX2 takes 512 columns at a time
    height=st.integers(1, 200),
    seed=seeds,
    extreme=st.booleans(),
    same_bias=st.booleans(),
)
def test_kernel_products_are_those_of_the_reference(run_stage, rows, width, height, seed, extreme, same_bias):
    check_product(run_stage, rows, width, height, seed, extreme, same_bias)


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("width", [512, 700, 7_000])
@pytest.mark.parametrize("extreme", [False, True])
def test_kernel_products_of_wide_rows_do_not_overflow(run_stage, rows, width, extreme):
    """AVX2 adds up 512 columns at a time, and computes wide rows one by one."""
    check_product(run_stage, rows, width, 70, rows + width, extreme, True)


def check_product(run_stage, rows, width, height, seed, extreme, same_bias):
    generator = torch.Generator().manual_seed(seed)
    x, w = (torch.randint(-127, 128, (n, width), generator=generator, dtype=torch.int8) for n in (rows, height))
    if extreme:
        x, w = torch.full_like(x, -127), torch.full_like(w, 127)
    x_scale, w_scale = torch.rand(rows, generator=generator), torch.rand(height, generator=generator)
    matrix = pack_matrix(QuantizedRows(w, w_scale), random_floats(seed, height))
    blocks, depth = matrix.packed.shape[0], matrix.packed.shape[1] * GROUP
    stride = 0 if same_bias else blocks * BLOCK
    add = matrix.bias if same_bias else random_floats(seed + 1, rows, stride)
    out = torch.full((rows, blocks * BLOCK), torch.nan)
    padded = F.pad(x, (0, depth - width)).contiguous()
    run_stage("matmul", *matrix, blocks, depth, rows, padded, x_scale, add, stride, out)
    expected = reference.matmul(QuantizedRows(x, x_scale), QuantizedRows(w, w_scale)) + add[..., :height]
    assert torch.equal(out[:, :height], expected)
    assert out.isfinite().all()


@one_kernel
@given(units=st.integers(1, 100), seed=seeds, scale=st.sampled_from([0.0, 1e-30, 1.0, 30.0, 1e6]))
def test_kernel_takes_an_lstm_step_as_the_reference_does(run_stage, units, seed, scale):
    gates, c = random_floats(seed, 4, units, scale=scale), random_floats(seed + 1, units, scale=min(scale, 30))
    i, f, g, o = gates
    expected = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = torch.full((units,), torch.nan)
    run_stage("lstm_step", gates, units, c, h)
    assert torch.equal(c, expected)
    assert torch.equal(h, sigmoid(o) * tanh(expected))


@one_kernel
@given(units=st.integers(1, 100), seed=seeds, scale=st.sampled_from([0.0, 1e-30, 1.0, 30.0, 1e6]))
def test_kernel_takes_a_gru_step_as_the_reference_does(run_stage, units, seed, scale):
    projected, stepped = random_floats(seed, 1, 3 * units, scale=scale), random_floats(seed + 1, 1, 3 * units)
    h = random_floats(seed + 2, 1, units)
    expected = reference.gru_step(projected, stepped, RecurrentWeights(None, None, None), h)
    run_stage("gru_step", projected, stepped, units, h)
    assert torch.equal(h, expected)


@one_kernel
@given(blocks=st.lists(st.integers(1, 4), min_size=1, max_size=3), seed=seeds, scale=st.sampled_from([0.0, 1.0, 60.0]))
def test_kernel_adds_logits_to_a_softmax_as_the_reference_does(run_stage, blocks, seed, scale):
    maximum, total = torch.full((1,), -torch.inf), torch.zeros(1, dtype=torch.float64)
    expected = 0.0
    for i, count in enumerate(blocks):
        logits = random_floats(seed + i, count, 4, LANES, scale=scale)
        most = torch.maximum(maximum, logits.max())
        exponentials = reference.exponential(logits - most)
        lanes = torch.zeros(LANES)
        for a, b, c, d in exponentials:
            lanes += (a + b) + (c + d)
        if most > maximum:
            expected *= reference.exponential(maximum - most).item()
        expected = sum(lanes.tolist(), expected)
        run_stage("update_softmax", logits, logits.numel(), maximum, total)
        assert torch.equal(maximum, most)
        assert total.item() == expected
