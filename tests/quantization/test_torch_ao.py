"""Laws of torch's eager quantization.

1. int8 weights and 4-bit rows are the roundings of the floats that they replace.
2. What torch cannot quantize, or would skip without an error, is refused.
"""

import copy
import sys

import pytest
import torch
from torch import nn

from lstmq import LSTMModel, ModelConfig, QuantizationError, quantize

torch_schemes = pytest.mark.parametrize("scheme", ["int8", "int8-embedding", "int8-embedding4"])


def test_int8_weights_are_rounded_to_256_values_of_their_range(model):
    packed, bias = quantize(model).decoder._packed_params._weight_bias()
    assert packed.dtype == torch.qint8
    assert torch.equal(bias, model.decoder.bias)
    weight = model.decoder.weight
    assert (packed.dequantize() - weight).abs().max() <= (weight.max() - weight.min()) / 255


def test_4_bit_rows_are_rounded_to_16_values_of_their_range(model):
    weight, quantized = model.encoder.weight, quantize(model, "int8-embedding4")
    stored = quantized.encoder(torch.arange(len(weight)))
    steps = (weight.amax(dim=1) - weight.amin(dim=1)) / 15
    assert ((stored - weight).abs().amax(dim=1) <= steps).all()
    assert all(len(row.unique()) <= 16 for row in stored)
    assert (stored - weight).abs().max() > 0.1 * steps.max()  # more values would be nearer


def test_int8_embedding4_refuses_an_odd_width():
    with pytest.raises(QuantizationError, match="encoder: expected an even width to quantize to 4 bits, found 7"):
        quantize(LSTMModel(ModelConfig(ntoken=30, ninp=7, nhid=8, nlayers=1)), "int8-embedding4")


@torch_schemes
@pytest.mark.parametrize(("lstm", "message"), [({"proj_size": 2}, "proj_size"), ({"bias": False}, "cannot quantize")])
def test_an_lstm_without_an_int8_version_is_refused(scheme, lstm, message):
    with pytest.raises(QuantizationError, match=message):
        quantize(nn.Sequential(nn.LSTM(4, 4, **lstm)), scheme)


@torch_schemes
def test_a_subclass_that_torch_would_skip_is_refused(model, scheme):
    """torch compares types exactly, so a subclass would stay float32 among quantized modules."""

    class MyLinear(nn.Linear):
        pass

    model.decoder = MyLinear(8, 30)
    with pytest.raises(QuantizationError, match="decoder, a MyLinear, would stay float32"):
        quantize(model, scheme)


@torch_schemes
def test_a_quantization_that_does_nothing_is_detected(model, scheme, monkeypatch):
    monkeypatch.setattr("torch.ao.quantization.quantize_dynamic", lambda model, _, inplace: copy.deepcopy(model))
    with pytest.raises(QuantizationError, match="would stay float32"):
        quantize(model, scheme)


@torch_schemes
def test_a_quantized_model_is_not_quantized_again(model, scheme):
    with pytest.raises(QuantizationError, match="nothing to quantize"):
        quantize(quantize(model, "int8-embedding"), scheme)


@pytest.mark.parametrize("removed", ["module", "function"])
@torch_schemes
def test_a_torch_without_dynamic_quantization_is_named_with_those_that_have_it(model, scheme, removed, monkeypatch):
    if removed == "module":
        monkeypatch.setitem(sys.modules, "torch.ao.quantization", None)
        monkeypatch.delattr("torch.ao.quantization")
        monkeypatch.delattr("torch.backends.quantized")  # the engines would be removed too
    else:
        monkeypatch.delattr("torch.ao.quantization.quantize_dynamic")
    message = r"removed in torch 2\..*: dynamic quantization, which torch 2.0 to 2.15 have"
    with pytest.raises(QuantizationError, match=message):
        quantize(model, scheme)
    assert next(quantize(model, "bf16").parameters()).dtype == torch.bfloat16
