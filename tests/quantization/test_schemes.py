"""Laws of quantization.

1. The quantized model is not the model: its modules and its bytes say so.
2. The model is left as it was, bit by bit; the engine is left as it was.
3. The loss stays within tolerance of float32.
4. What would stay float32 is refused, never returned.
"""

import copy
import sys

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from lstmq import SCHEMES, LSTMModel, ModelConfig, QuantizationError, Scheme, batchify, evaluate, model_size, quantize
from lstmq.quantization.schemes import SCHEMES as TABLE
from lstmq.quantization.schemes import select_schemes
from lstmq.quantization.torch_ao import dynamic_quantizer
from strategies import models, seeds, stream

EAGER = ["int8", "int8-embedding", "int8-embedding4"]
TORCH = [*EAGER, "bf16"]
ENGINES = [name for name in SCHEMES if name not in TORCH]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)
torchs_schemes = pytest.mark.parametrize("scheme", TORCH)
not_compiled = pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "bf16-compile"])


def float32_modules(model):
    return {
        type(module)
        for module in model.modules()
        if any(weight.dtype == torch.float32 for weight in module.parameters(recurse=False))
    }


@torchs_schemes
@given(model=models(), seed=seeds)
def test_the_quantized_model_is_not_the_model_and_the_model_is_as_it_was(scheme, model, seed):
    assume(scheme != "int8-embedding4" or model.config.ninp % 2 == 0)
    mode, before = model.training, copy.deepcopy(model.state_dict())
    quantized = quantize(model, scheme)
    assert float32_modules(model) == {nn.Embedding, nn.LSTM, nn.Linear}
    assert float32_modules(quantized) == ({nn.Embedding} if scheme == "int8" else set())
    assert not quantized.training
    assert model.training == mode
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    source = batchify(stream(model.config.ntoken, 40, seed), 2)
    logits, _ = model.eval()(source, model.init_hidden(2))
    quantized_logits, _ = quantized(source, quantized.init_hidden(2))
    assert quantized_logits.shape == logits.shape
    if model.config.nhid > 4:
        assert not torch.equal(quantized_logits.float(), logits)


@pytest.mark.parametrize(
    ("scheme", "at_least"),
    [("int8", 1.4), ("int8-embedding", 3.0), ("int8-embedding4", 3.4), ("bf16", 1.9), ("ort-int8", 3.0)],
)
@given(ntoken=st.integers(500, 2_000), half=st.integers(16, 48), seed=seeds)
def test_the_bytes_say_so(scheme, at_least, ntoken, half, seed):
    config = ModelConfig(ntoken=ntoken, ninp=2 * half, nhid=max(32, 2 * half), nlayers=2)
    model = LSTMModel(config, torch.Generator().manual_seed(seed))
    assert model_size(model).total / model_size(quantize(model, scheme)).total > at_least


@not_compiled
@given(model=models(max_ntoken=200, max_width=64), scale=st.floats(0.5, 3), bsz=st.integers(1, 4), seed=seeds)
def test_the_loss_is_within_tolerance_of_float32(scheme, model, scale, bsz, seed):
    """Three times the initial weights is past what training makes of them. The tolerance is of 8-bit rounding."""
    assume(scheme != "int8-embedding4" or model.config.ninp % 2 == 0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    source = batchify(stream(model.config.ntoken, 100 * bsz, seed), bsz)
    loss = evaluate(model, source, 25)
    assert evaluate(quantize(model, scheme), source, 25) == pytest.approx(loss, abs=0.02 * loss)


def test_int8_weights_are_qint8_with_the_floats_they_stand_for(model):
    """An independent look into the packed weights: rounded to a grid of 256 values over their own range."""
    packed, bias = quantize(model).decoder._packed_params._weight_bias()
    assert packed.dtype == torch.qint8
    assert torch.equal(bias, model.decoder.bias)
    weight = model.decoder.weight
    assert (packed.dequantize() - weight).abs().max() <= (weight.max() - weight.min()) / 255


def test_a_further_scheme_is_one_entry(model, monkeypatch):
    linear = Scheme(summary="only the decoder", make=dynamic_quantizer({nn.Linear: "qint8"}))
    monkeypatch.setitem(TABLE, "int8-linear", linear)
    assert float32_modules(quantize(model, "int8-linear")) == {nn.Embedding, nn.LSTM}


@pytest.mark.parametrize("engine", [e for e in torch.backends.quantized.supported_engines if e != "none"])
def test_every_engine_of_this_torch_is_used_and_put_back(model, engine):
    source = batchify(stream(30, 60, 0), 1)
    before = torch.backends.quantized.engine
    quantized = quantize(model, engine=engine)
    assert torch.backends.quantized.engine == before
    assert evaluate(quantized, source, 25) == pytest.approx(evaluate(model, source, 25), abs=0.02)


def test_the_engine_is_set_while_quantizing_and_put_back_after_an_error(model, monkeypatch):
    before, seen = torch.backends.quantized.engine, []
    other = next(e for e in torch.backends.quantized.supported_engines if e not in (before, "none"))

    def fail(*args):
        seen.append(torch.backends.quantized.engine)
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.ao.quantization.quantize_dynamic", fail)
    with pytest.raises(KeyboardInterrupt):
        quantize(model, engine=other)
    assert seen == [other]
    assert torch.backends.quantized.engine == before


@every_scheme
def test_an_engine_that_is_not_in_this_torch_is_refused(model, scheme):
    with pytest.raises(QuantizationError, match=r"no engine 'abacus' in torch .*: it has .*x86|qnnpack"):
        quantize(model, scheme, engine="abacus")


@torchs_schemes
@pytest.mark.parametrize("root", [nn.LSTM(4, 4), nn.Linear(4, 4)])
def test_a_bare_root_is_refused(scheme, root):
    """torch returns it as it is, without a word."""
    with pytest.raises(QuantizationError, match=f"of type {type(root).__name__}, which .*: put it in a module"):
        quantize(root, scheme)


@torchs_schemes
@pytest.mark.parametrize("model", [nn.Sequential(), nn.Sequential(nn.Conv1d(2, 2, 1)), nn.GRU(4, 4)])
def test_a_model_with_nothing_to_quantize_is_refused(scheme, model):
    with pytest.raises(QuantizationError, match=rf"nothing to quantize: {type(model).__name__} holds no float LSTM"):
        quantize(model, scheme)


@pytest.mark.parametrize("scheme", EAGER)
def test_a_quantized_model_is_not_quantized_again(model, scheme):
    with pytest.raises(QuantizationError, match="nothing to quantize"):
        quantize(quantize(model, "int8-embedding"), scheme)


@not_compiled
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_only_a_float32_model_is_quantized(model, scheme, dtype):
    with pytest.raises(QuantizationError, match=f"is {dtype}: expected float32"):
        quantize(model.to(dtype), scheme)


@pytest.mark.parametrize("scheme", EAGER)
@pytest.mark.parametrize(("lstm", "message"), [({"proj_size": 2}, "proj_size"), ({"bias": False}, "cannot quantize")])
def test_an_lstm_that_torch_has_no_int8_for_is_refused(scheme, lstm, message):
    with pytest.raises(QuantizationError, match=message):
        quantize(nn.Sequential(nn.LSTM(4, 4, **lstm)), scheme)


@pytest.mark.parametrize("scheme", EAGER)
def test_a_module_that_torch_would_pass_over_is_refused(model, scheme):
    """torch matches types exactly, so a subclass stays float32 among quantized neighbours."""

    class MyLinear(nn.Linear):
        pass

    model.decoder = MyLinear(8, 30)
    with pytest.raises(QuantizationError, match="decoder, a MyLinear, would stay float32"):
        quantize(model, scheme)


@pytest.mark.parametrize("scheme", EAGER)
def test_quantization_that_does_nothing_is_seen(model, scheme, monkeypatch):
    monkeypatch.setattr("torch.ao.quantization.quantize_dynamic", lambda model, _: copy.deepcopy(model))
    with pytest.raises(QuantizationError, match="would stay float32"):
        quantize(model, scheme)


@pytest.mark.parametrize("gone", ["module", "function"])
@pytest.mark.parametrize("scheme", EAGER)
def test_a_torch_without_dynamic_quantization_says_which_have_it(model, scheme, gone, monkeypatch):
    if gone == "module":
        monkeypatch.setitem(sys.modules, "torch.ao.quantization", None)
        monkeypatch.delattr("torch.ao.quantization")
        monkeypatch.delattr("torch.backends.quantized")  # and with it the engines
    else:
        monkeypatch.delattr("torch.ao.quantization.quantize_dynamic")
    with pytest.raises(
        QuantizationError, match=r"removed in torch 2\..*: dynamic quantization, which torch 2.0 to 2.15 have"
    ):
        quantize(model, scheme)
    assert float32_modules(quantize(model, "bf16")) == set()


def test_an_unknown_scheme_is_refused_with_those_there_are(model):
    with pytest.raises(
        ValueError, match="no such scheme: 'int3', expected one of int8, int8-embedding, int8-embedding4, bf16"
    ):
        quantize(model, "int3")


def test_rows_of_4_bits_are_what_they_stand_for(model):
    """Sixteen values a row, over the row's own range."""
    weight, quantized = model.encoder.weight, quantize(model, "int8-embedding4")
    stored = quantized.encoder(torch.arange(len(weight)))
    steps = (weight.amax(dim=1) - weight.amin(dim=1)) / 15
    assert ((stored - weight).abs().amax(dim=1) <= steps).all()
    assert all(len(row.unique()) <= 16 for row in stored)
    assert (stored - weight).abs().max() > 0.1 * steps.max()  # nor are they 256


def test_4_bits_of_an_odd_width_are_refused():
    with pytest.raises(QuantizationError, match="encoder: expected an even width to quantize to 4 bits, found 7"):
        quantize(LSTMModel(ModelConfig(ntoken=30, ninp=7, nhid=8, nlayers=1)), "int8-embedding4")


@pytest.mark.parametrize("scheme", ENGINES)
def test_an_engine_is_for_this_packages_model_alone(scheme):
    with pytest.raises(QuantizationError, match=f"{scheme} needs an LSTMModel, found Sequential"):
        quantize(nn.Sequential(nn.LSTM(4, 4)), scheme)


def test_what_is_asked_for_is_meant_and_else_what_can_be_had(model, monkeypatch):
    assert select_schemes(["ort-fp32", "int8", "int8"], model) == (("ort-fp32", "int8"), {})
    assert select_schemes([], model) == (
        ("int8", "int8-embedding", "int8-embedding4", "bf16", "int8-native", "ort-int8"),
        {},
    )
    assert select_schemes([], model, known=["bf16", "ort-int8", "ort-fp32"]) == (("bf16", "ort-int8"), {})
    assert select_schemes(["all"], model) == (tuple(SCHEMES), {})
    others, left_out = select_schemes(["all", "int8"], nn.Sequential(nn.Linear(2, 2)))
    assert others == ("int8", "int8-embedding", "int8-embedding4", "bf16")
    assert set(left_out.values()) == {"an LSTMModel, found Sequential"}
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert select_schemes([], model)[1] == {"ort-int8": "ONNX Runtime: pip install 'lstmq[onnxruntime]'"}
    with pytest.raises(QuantizationError, match=r"ort-int8 needs ONNX Runtime: pip install 'lstmq\[onnxruntime\]'"):
        quantize(model, "ort-int8")
