"""Laws of all schemes.

1. The quantized model is another model: its modules and its bytes show it.
2. The original model does not change.
3. The loss is near that of float32.
4. A model that would stay float32 is refused, never returned.
"""

import copy
import sys

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from lstmq import SCHEMES, LSTMModel, ModelConfig, QuantizationError, batchify, evaluate, model_size, quantize
from lstmq.quantization.bfloat16 import cast_to_bfloat16
from lstmq.quantization.schemes import Scheme, select_schemes
from strategies import models, random_ids, seeds

MODULE_SCHEMES = [name for name, scheme in SCHEMES.items() if not scheme.language_models_only]
module_schemes = pytest.mark.parametrize("scheme", MODULE_SCHEMES)
quickly_built_schemes = pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "bf16-compile"])


def float32_modules(model):
    return {
        type(module)
        for module in model.modules()
        if any(weight.dtype == torch.float32 for weight in module.parameters(recurse=False))
    }


@module_schemes
@settings(max_examples=10)
@given(model=models(), seed=seeds)
def test_quantize_returns_another_model_and_leaves_the_original_unchanged(scheme, model, seed):
    assume(scheme != "int8-embedding4" or model.config.ninp % 2 == 0)
    mode, before = model.training, copy.deepcopy(model.state_dict())
    quantized = quantize(model, scheme)
    assert float32_modules(model) == {nn.Embedding, nn.LSTM, nn.Linear}
    assert float32_modules(quantized) == ({nn.Embedding} if scheme == "int8" else set())
    assert not quantized.training
    assert model.training == mode
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    ids = batchify(random_ids(model.config.ntoken, 40, seed), 2)
    logits, _ = model.eval()(ids, model.init_hidden(2))
    quantized_logits, _ = quantized(ids, quantized.init_hidden(2))
    assert quantized_logits.shape == logits.shape
    if model.config.nhid > 4:
        assert not torch.equal(quantized_logits.float(), logits)


@pytest.mark.parametrize(
    ("scheme", "at_least"),
    [("int8", 1.4), ("int8-embedding", 3.0), ("int8-embedding4", 3.4), ("bf16", 1.9), ("ort-int8", 3.0)],
)
@settings(max_examples=3)
@given(ntoken=st.integers(500, 2_000), half=st.integers(16, 48), seed=seeds)
def test_quantize_returns_a_smaller_model(scheme, at_least, ntoken, half, seed):
    config = ModelConfig(ntoken=ntoken, ninp=2 * half, nhid=max(32, 2 * half), nlayers=2)
    model = LSTMModel(config, torch.Generator().manual_seed(seed))
    assert model_size(model).total / model_size(quantize(model, scheme)).total > at_least


@quickly_built_schemes
@settings(max_examples=10)
@given(model=models(max_ntoken=200, max_width=64), scale=st.floats(0.5, 3), bsz=st.integers(1, 4), seed=seeds)
def test_loss_of_a_quantized_model_is_within_2_percent_of_float32(scheme, model, scale, bsz, seed):
    """The scale covers the weights of trained models: training makes them less than three times as large."""
    assume(scheme != "int8-embedding4" or model.config.ninp % 2 == 0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    source = batchify(random_ids(model.config.ntoken, 50 * bsz, seed), bsz)
    loss = evaluate(model, source, 25)
    assert evaluate(quantize(model, scheme), source, 25) == pytest.approx(loss, abs=0.02 * loss)


def test_a_new_scheme_needs_one_entry(model, monkeypatch):
    monkeypatch.setitem(SCHEMES, "half", Scheme(summary="everything in bfloat16", quantize=cast_to_bfloat16))
    assert float32_modules(quantize(model, "half")) == set()


@pytest.mark.parametrize("scheme", [name for name in MODULE_SCHEMES if name != "int8-native"])
@pytest.mark.parametrize("root", [nn.LSTM(4, 4), nn.GRU(4, 4), nn.LSTMCell(4, 4), nn.Linear(4, 4)])
def test_quantize_refuses_a_bare_module(scheme, root):
    """torch returns it unchanged, without an error."""
    with pytest.raises(QuantizationError, match=f"of type {type(root).__name__}, which .*: put it in a module"):
        quantize(root, scheme)


@module_schemes
@pytest.mark.parametrize("model", [nn.Sequential(), nn.Sequential(nn.Conv1d(2, 2, 1)), nn.MultiheadAttention(4, 1)])
def test_quantize_refuses_a_model_with_nothing_to_quantize(scheme, model):
    with pytest.raises(QuantizationError, match=rf"nothing to quantize: {type(model).__name__} holds no float LSTM"):
        quantize(model, scheme)


@quickly_built_schemes
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_quantize_refuses_a_model_that_is_not_float32(model, scheme, dtype):
    with pytest.raises(QuantizationError, match=f"is {dtype}: expected float32"):
        quantize(model.to(dtype), scheme)


def test_quantize_refuses_an_unknown_scheme_and_lists_the_known_ones(model):
    message = "no such scheme: 'int3', expected one of int8, int8-embedding, int8-embedding4, bf16"
    with pytest.raises(ValueError, match=message):
        quantize(model, "int3")


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in MODULE_SCHEMES])
def test_quantize_refuses_another_module_for_language_model_schemes(scheme):
    with pytest.raises(QuantizationError, match=f"{scheme} needs an LSTMModel, found Sequential"):
        quantize(nn.Sequential(nn.LSTM(4, 4)), scheme)


@pytest.fixture
def _fast_bfloat16(monkeypatch):
    """Let this processor have bfloat16 instructions."""
    monkeypatch.setattr("lstmq.quantization.bfloat16.missing_instructions", str)


def test_select_schemes_leaves_out_bf16_by_default_where_it_is_slow(model, monkeypatch):
    monkeypatch.setattr("lstmq.quantization.bfloat16.missing_instructions", lambda: "instructions")
    for names in ([], ["all"]):
        selected, left_out = select_schemes(names, model)
        assert "bf16" not in selected
        assert left_out["bf16"] == "instructions"
    assert select_schemes(["bf16"], model) == (("bf16",), {})


def test_select_schemes_selects_named_schemes_even_if_they_are_slow_or_missing(model, monkeypatch):
    assert select_schemes(["ort-fp32", "int8", "int8"], model) == (("ort-fp32", "int8"), {})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert select_schemes(["ort-int8"], model) == (("ort-int8",), {})


@pytest.mark.usefixtures("_fast_bfloat16")
def test_select_schemes_without_names_selects_the_default_schemes(model):
    default = ("int8", "int8-embedding", "int8-embedding4", "bf16", "int8-native", "ort-int8")
    assert select_schemes([], model) == (default, {})
    assert select_schemes([], model, known=["bf16", "ort-int8", "ort-fp32"]) == (("bf16", "ort-int8"), {})
    assert select_schemes(["all"], model) == (tuple(SCHEMES), {})


@pytest.mark.usefixtures("_fast_bfloat16")
def test_select_schemes_leaves_out_schemes_that_do_not_support_the_model():
    selected, left_out = select_schemes(["all", "int8"], nn.Sequential(nn.Linear(2, 2)))
    assert selected == ("int8", "int8-embedding", "int8-embedding4", "bf16", "int8-native")
    assert set(left_out.values()) == {
        "an LSTMModel, found Sequential (load_checkpoint makes one of a state dict with the tutorial's keys)"
    }


@pytest.mark.usefixtures("_fast_bfloat16")
def test_select_schemes_leaves_out_schemes_whose_packages_are_missing(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert select_schemes([], model)[1] == {"ort-int8": "ONNX Runtime: pip install 'lstmq[onnxruntime]'"}
    with pytest.raises(QuantizationError, match=r"ort-int8 needs ONNX Runtime: pip install 'lstmq\[onnxruntime\]'"):
        quantize(model, "ort-int8")
