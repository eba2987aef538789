"""Laws of ONNX Runtime as an engine: whatever torch's model can be asked, it answers, and the same within rounding."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmq import QuantizationError, batchify, evaluate, model_size, quantize
from lstmq.model.evaluation import StreamReader
from lstmq.model.lstm import LanguageModel
from lstmq.quantization.onnx import session
from lstmq.text.streams import next_words
from strategies import models, seeds, stream

pytest.importorskip("onnxruntime", reason="of the extra onnxruntime")
ORT = ["ort-fp32", "ort-int8", "ort-int8-linear-lstm"]
every_scheme = pytest.mark.parametrize("scheme", ORT)


@given(model=models(), scale=st.floats(0.5, 10), bsz=st.integers(1, 4), bptt=st.integers(1, 30), seed=seeds)
def test_its_float32_is_torchs_within_rounding(model, scale, bsz, bptt, seed):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    source = batchify(stream(model.config.ntoken, 60 * bsz, seed), bsz)
    assert evaluate(quantize(model, "ort-fp32"), source, bptt) == pytest.approx(evaluate(model, source, bptt), abs=1e-4)


@every_scheme
@given(model=models(), bsz=st.integers(1, 3), bptt=st.integers(1, 30), seed=seeds)
def test_state_that_is_carried_equals_one_long_window(scheme, model, bsz, bptt, seed):
    """In int8 not to the bit: activations are quantized by their range over a window."""
    source = batchify(stream(model.config.ntoken, 40 * bsz, seed), bsz)
    quantized = quantize(model, scheme)
    whole = evaluate(quantized, source, 100)
    assert evaluate(quantized, source, bptt) == pytest.approx(whole, abs=1e-5 if scheme == "ort-fp32" else 0.02 * whole)


@every_scheme
@given(model=models(), bsz=st.integers(1, 3), seed=seeds)
def test_the_loss_is_that_of_the_logits(scheme, model, bsz, seed):
    """They are of two sessions."""
    quantized = quantize(model, scheme)
    window = next_words(batchify(stream(model.config.ntoken, 20 * bsz, seed), bsz))
    reader, other = StreamReader(quantized, bsz), StreamReader(quantized, bsz)
    total, logits = reader.loss_and_output(window)
    assert total.item() == pytest.approx(window.summed_loss(logits).item(), rel=1e-5)
    assert other.window_loss(window).item() == total.item()
    assert logits.shape == (*window.targets.shape, model.config.ntoken)
    again, _ = reader.loss_and_output(window)  # from the state after the first
    assert other.window_loss(window).item() == again.item()


@every_scheme
def test_the_model_is_as_it_was(scheme, model):
    before, mode = copy.deepcopy(model.state_dict()), model.training
    quantized = quantize(model, scheme)
    assert isinstance(quantized, LanguageModel)
    assert not quantized.training
    assert model.training == mode
    with torch.no_grad():
        model.decoder.weight.add_(1)  # which the other must not see
    model.load_state_dict(before)
    source = batchify(stream(30, 60, 0), 1)
    assert evaluate(quantized, source, 25) == evaluate(quantize(model, scheme), source, 25)


def test_it_weighs_what_its_graph_weighs(model):
    quantized = quantize(model, "ort-int8")
    assert 0 < model_size(quantized).total - len(quantized.graph) < 2_000


def test_a_copy_is_a_model_of_its_own(model):
    quantized, source = quantize(model, "ort-int8"), batchify(stream(30, 60, 0), 1)
    loss = evaluate(quantized, source, 25)
    other = copy.deepcopy(quantized)
    assert other.graph.data_ptr() != quantized.graph.data_ptr()
    assert evaluate(other, source, 25) == loss


def test_two_threads_at_once_give_what_each_gives_alone(model, in_two_threads):
    at_once, alone = in_two_threads(quantize(model, "ort-int8"))
    assert at_once == alone


def test_an_id_that_is_no_word_is_refused(model):
    with pytest.raises(ValueError, match="the model knows 30 words, but the source holds the id 30"):
        evaluate(quantize(model, "ort-int8"), torch.tensor([[1], [30], [2]]), 2)


@every_scheme
def test_a_quantized_model_is_not_quantized_again(scheme, model):
    with pytest.raises(QuantizationError, match="nothing to quantize: expected"):
        quantize(quantize(model, "int8"), scheme)


def test_a_model_that_no_graph_can_hold_is_refused(model, monkeypatch):
    monkeypatch.setattr(session, "LARGEST", 1_000)
    with pytest.raises(QuantizationError, match=r"a graph holds 2 GB at most, and the model has [0-9,]+ bytes"):
        quantize(model, "ort-fp32")


def test_int8_is_int8(model):
    """Not float32 under another name: its logits are not float32's, by about as much as 8 bits make."""
    ids, hidden = stream(30, 20, 0).view(20, 1), model.init_hidden(1)
    with torch.no_grad():
        exact = model.eval()(ids, hidden)[0].numpy()
        near, far = (quantize(model, scheme)(ids, hidden)[0].numpy() for scheme in ("ort-fp32", "ort-int8"))
    assert np.abs(near - exact).max() < 1e-6 < 1e-4 < np.abs(far - exact).max() < 0.05
