"""Laws of models in ONNX Runtime.

1. In float32, the loss is torch's within rounding.
2. State carried between windows gives the loss of one long window.
3. The loss is that of the logits, although two sessions compute them.
"""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import QuantizationError, batchify, evaluate, model_size, next_words, quantize
from lstmq.model.base import LanguageModel
from lstmq.model.reader import StreamReader
from lstmq.quantization.onnx import session
from strategies import models, random_ids, seeds

pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
onnx_schemes = pytest.mark.parametrize("scheme", ["ort-fp32", "ort-int8", "ort-int8-linear-lstm"])


@settings(max_examples=20)
@given(model=models(), scale=st.floats(0.5, 10), bsz=st.integers(1, 4), bptt=st.integers(1, 30), seed=seeds)
def test_float32_loss_is_that_of_torch_within_rounding(model, scale, bsz, bptt, seed):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    source = batchify(random_ids(model.config.ntoken, 60 * bsz, seed), bsz)
    assert evaluate(quantize(model, "ort-fp32"), source, bptt) == pytest.approx(evaluate(model, source, bptt), abs=1e-4)


@onnx_schemes
@settings(max_examples=10)
@given(model=models(), bsz=st.integers(1, 3), bptt=st.integers(1, 30), seed=seeds)
def test_windows_with_the_state_carried_have_the_loss_of_one_long_window(scheme, model, bsz, bptt, seed):
    """In int8 the losses differ more, because activations are quantized by their range over a window."""
    source = batchify(random_ids(model.config.ntoken, 40 * bsz, seed), bsz)
    quantized = quantize(model, scheme)
    expected = evaluate(quantized, source, 100)
    tolerance = 1e-5 if scheme == "ort-fp32" else 0.02 * expected
    assert evaluate(quantized, source, bptt) == pytest.approx(expected, abs=tolerance)


@onnx_schemes
@settings(max_examples=10)
@given(model=models(), bsz=st.integers(1, 3), seed=seeds)
def test_window_loss_is_the_loss_of_the_logits(scheme, model, bsz, seed):
    quantized = quantize(model, scheme)
    window = next_words(batchify(random_ids(model.config.ntoken, 20 * bsz, seed), bsz))
    reader, loss_reader = StreamReader(quantized, window), StreamReader(quantized, window)
    loss, targets, logits = reader.loss_and_output(window)
    assert targets == window.tokens
    assert loss.item() == pytest.approx(window.summed_loss(logits).item(), rel=1e-5)
    assert loss_reader.window_loss(window)[0].item() == loss.item()
    assert logits.shape == (*window.targets.shape, model.config.ntoken)
    loss, *_ = reader.loss_and_output(window)  # again, from the state after the first window
    assert loss_reader.window_loss(window)[0].item() == loss.item()


@onnx_schemes
def test_quantized_model_does_not_share_weights_with_the_original(scheme, model):
    before, mode = copy.deepcopy(model.state_dict()), model.training
    quantized = quantize(model, scheme)
    assert isinstance(quantized, LanguageModel)
    assert not quantized.training
    assert model.training == mode
    with torch.no_grad():
        model.decoder.weight.add_(1)
    model.load_state_dict(before)
    source = batchify(random_ids(30, 60, 0), 1)
    assert evaluate(quantized, source, 25) == evaluate(quantize(model, scheme), source, 25)


def test_model_size_is_the_size_of_the_graph(model):
    quantized = quantize(model, "ort-int8")
    assert 0 < model_size(quantized).total - len(quantized.graph) < 2_000


def test_a_copy_has_its_own_weights_and_the_same_loss(model):
    quantized, source = quantize(model, "ort-int8"), batchify(random_ids(30, 60, 0), 1)
    loss = evaluate(quantized, source, 25)
    other = copy.deepcopy(quantized)
    assert other.graph.data_ptr() != quantized.graph.data_ptr()
    assert evaluate(other, source, 25) == loss


def test_two_threads_in_parallel_measure_what_each_measures_alone(model, in_two_threads):
    in_parallel, alone = in_two_threads(quantize(model, "ort-int8"))
    assert in_parallel == alone


def test_evaluate_refuses_an_unknown_id(model):
    with pytest.raises(ValueError, match="the model knows 30 words, but the source contains the id 30"):
        evaluate(quantize(model, "ort-int8"), torch.tensor([[1], [30], [2]]), 2)


@onnx_schemes
def test_a_quantized_model_is_not_quantized_again(scheme, model):
    with pytest.raises(QuantizationError, match="nothing to quantize: expected"):
        quantize(quantize(model, "int8"), scheme)


def test_a_model_too_large_for_a_graph_is_refused(model, monkeypatch):
    monkeypatch.setattr(session, "MAX_GRAPH_BYTES", 1_000)
    with pytest.raises(QuantizationError, match=r"a graph holds 2 GB at most, and the model has [0-9,]+ bytes"):
        quantize(model, "ort-fp32")


def test_int8_logits_differ_from_float32_by_about_8_bits(model):
    ids, hidden = random_ids(30, 20, 0).view(20, 1), model.init_hidden(1)
    with torch.no_grad():
        expected = model.eval()(ids, hidden)[0].numpy()
        float32, int8 = (quantize(model, scheme)(ids, hidden)[0].numpy() for scheme in ("ort-fp32", "ort-int8"))
    assert np.abs(float32 - expected).max() < 1e-6 < 1e-4 < np.abs(int8 - expected).max() < 0.05
