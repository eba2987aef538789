"""Laws of the int8-native arithmetic, checked against NumPy and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lstmq import evaluate
from lstmq.quantization.native import reference
from lstmq.quantization.native.model import quantize_native
from lstmq.quantization.native.reference import quantize_rows
from lstmq.quantization.native.weights import QuantizedRows, weights_from_state
from lstmq.text.streams import next_words
from strategies import models, random_ids, seeds

floats = st.floats(-(2.0**100), 2.0**100, width=32)
matrices = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=floats)
integers = st.integers(-127, 127)


@given(values=matrices)
def test_quantized_row_is_within_half_a_step_of_its_values(values):
    rows = quantize_rows(torch.from_numpy(values))
    assert rows.integers.dtype == torch.int8
    assert rows.integers.abs().max() <= 127
    dequantized = rows.integers.double().numpy() * rows.scale.double().numpy()[:, None]
    step = np.maximum(np.abs(values).max(axis=1, keepdims=True).astype(np.float64) / 127, 1e-30)
    assert (np.abs(dequantized - values) <= 0.5001 * step).all()
    for row, largest in zip(rows.integers, np.abs(values).max(axis=1), strict=True):
        assert row.abs().max() == (127 if largest > reference.SMALLEST_MAGNITUDE else 0)


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e-45])
def test_quantized_row_is_zero_if_all_magnitudes_are_tiny(value):
    rows = quantize_rows(torch.tensor([[value, -value], [1.0, 0.5]]))
    assert rows.integers.tolist() == [[0, 0], [127, 64]]  # 63.5 rounds to the even neighbour
    assert rows.scale.tolist() == [0, pytest.approx(1 / 127)]


@given(data=st.data(), rows=st.integers(1, 5), height=st.integers(1, 5), width=st.integers(1, 300))
def test_matmul_is_exact_in_its_integers(data, rows, height, width):
    x, w = (data.draw(arrays.arrays(np.int8, (n, width), elements=integers, fill=integers)) for n in (rows, height))
    result = reference.matmul(*(QuantizedRows(torch.from_numpy(array), torch.ones(len(array))) for array in (x, w)))
    assert (result.numpy() == (x.astype(np.int64) @ w.astype(np.int64).T).astype(np.float32)).all()


def test_exponential_sigmoid_and_tanh_are_near_those_of_torch():
    x = torch.linspace(-87, 88, 1_000_001)
    assert ((reference.exponential(x).double() / x.double().exp() - 1).abs() < 2e-7).all()
    assert ((reference.sigmoid(x) - x.sigmoid()).abs() < 2e-7).all()
    assert ((reference.tanh(x) - x.tanh()).abs() < 3e-7).all()
    ends = torch.tensor([-1e9, -torch.inf, 1e9, torch.inf, 0.0])
    assert reference.sigmoid(ends).tolist() == pytest.approx([0, 0, 1, 1, 0.5], abs=1e-37)
    assert reference.tanh(ends).tolist() == [-1, -1, 1, 1, 0]


@settings(max_examples=20)
@given(model=models(max_ntoken=60, max_width=40), bsz=st.integers(1, 3), seed=seeds)
def test_reference_loss_is_within_one_percent_of_float32(model, bsz, seed):
    window = next_words(random_ids(model.config.ntoken, 20 * bsz, seed).view(-1, bsz))
    quantized, model = quantize_native(model), model.eval()
    weights = weights_from_state(quantized.state_dict(), model.config)
    logits, _ = reference.logits(weights, window.inputs, quantized.init_hidden(bsz))
    loss = evaluate(model, window, 100)
    assert window.summed_loss(logits).item() / window.tokens == pytest.approx(loss, abs=0.01 * loss)
