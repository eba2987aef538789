"""Laws of int8 arithmetic of our own, by NumPy's and torch's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lstmq import evaluate
from lstmq.quantization.native import reference
from lstmq.quantization.native.model import quantize_native
from lstmq.quantization.native.reference import QuantizedRows, quantize_rows
from lstmq.text.streams import next_words
from strategies import models, seeds, stream

floats = st.floats(-(2.0**100), 2.0**100, width=32)
matrices = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=floats)
integers = st.integers(-127, 127)


@given(numbers=matrices)
def test_a_row_is_its_integers_times_its_scale_within_half_a_step(numbers):
    rows = quantize_rows(torch.from_numpy(numbers))
    assert rows.integers.dtype == torch.int8
    assert rows.integers.abs().max() <= 127
    stood_for = rows.integers.double().numpy() * rows.scale.double().numpy()[:, None]
    step = np.maximum(np.abs(numbers).max(axis=1, keepdims=True).astype(np.float64) / 127, 1e-30)
    assert (np.abs(stood_for - numbers) <= 0.5001 * step).all()
    for row, most in zip(rows.integers, np.abs(numbers).max(axis=1), strict=True):
        assert row.abs().max() == (127 if most > reference.SMALLEST_MAGNITUDE else 0)


@pytest.mark.parametrize("zero", [0.0, 1e-38, 1e-45])
def test_a_row_of_next_to_nothing_is_zero(zero):
    rows = quantize_rows(torch.tensor([[zero, -zero], [1.0, 0.5]]))
    assert rows.integers.tolist() == [[0, 0], [127, 64]]  # 63.5 is rounded to the even
    assert rows.scale.tolist() == [0, pytest.approx(1 / 127)]


@given(data=st.data(), rows=st.integers(1, 5), others=st.integers(1, 5), width=st.integers(1, 300))
def test_a_product_is_exact_in_its_integers(data, rows, others, width):
    x, w = (
        data.draw(arrays.arrays(np.int8, (height, width), elements=integers, fill=integers))
        for height in (rows, others)
    )
    told = reference.matmul(*(QuantizedRows(torch.from_numpy(each), torch.ones(len(each))) for each in (x, w)))
    assert (told.numpy() == (x.astype(np.int64) @ w.astype(np.int64).T).astype(np.float32)).all()


def test_the_exponential_and_what_is_made_of_it_are_near_torchs():
    x = torch.linspace(-87, 88, 1_000_001)
    assert ((reference.exponential(x).double() / x.double().exp() - 1).abs() < 2e-7).all()
    assert ((reference.sigmoid(x) - x.sigmoid()).abs() < 2e-7).all()
    assert ((reference.tanh(x) - x.tanh()).abs() < 3e-7).all()
    ends = torch.tensor([-1e9, -torch.inf, 1e9, torch.inf, 0.0])
    assert reference.sigmoid(ends).tolist() == pytest.approx([0, 0, 1, 1, 0.5], abs=1e-37)
    assert reference.tanh(ends).tolist() == [-1, -1, 1, 1, 0]


@given(model=models(max_ntoken=60, max_width=40), bsz=st.integers(1, 3), seed=seeds)
def test_the_model_says_what_float32_says_within_8_bits(model, bsz, seed):
    window = next_words(stream(model.config.ntoken, 40 * bsz, seed).view(-1, bsz))
    quantized, model = quantize_native(model), model.eval()
    encoder, layers, decoder, bias = quantized._weights()
    read, _ = reference.run_layers(encoder, layers, window.inputs, quantized.init_hidden(bsz))
    logits = (reference.matmul(read, decoder) + bias).view(*window.inputs.shape, -1)
    loss = evaluate(model, window, 100)
    assert window.summed_loss(logits).item() / window.tokens == pytest.approx(loss, abs=0.01 * loss)
