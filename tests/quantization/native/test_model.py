"""Laws of :class:`NativeModel` as a language model. ``test_kernels.py`` tests what its kernels compute."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmq import QuantizationError, batchify, evaluate, model_size, quantize
from lstmq.quantization.native.library import load_library
from lstmq.quantization.native.weights import state_spec
from strategies import models, random_ids, seeds


@given(model=models(), bsz=st.integers(1, 3), bptt=st.integers(1, 30), seed=seeds)
def test_loss_does_not_depend_on_how_a_stream_is_cut_into_windows(model, bsz, bptt, seed):
    """Each step is quantized by its own largest magnitude, so only the sum of the losses rounds differently."""
    source = batchify(random_ids(model.config.ntoken, 40 * bsz, seed), bsz)
    quantized = quantize(model, "int8-native")
    assert evaluate(quantized, source, bptt) == pytest.approx(evaluate(quantized, source, 100), rel=1e-6)


@given(model=models(max_width=40), bsz=st.integers(1, 3), seed=seeds)
def test_state_is_near_the_float32_state_whatever_the_biases(model, bsz, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bias" in name:
                weight.uniform_(-2, 2, generator=generator)
    ids = random_ids(model.config.ntoken, 20 * bsz, seed).view(20, bsz)
    with torch.no_grad():
        _, (h, c) = model.eval()(ids, model.init_hidden(bsz))
    _, (native_h, native_c) = quantize(model, "int8-native")(ids, model.init_hidden(bsz))
    assert (native_h - h).abs().max() < 0.05
    assert (native_c - c).abs().max() < 0.05 * max(1, c.abs().max().item())


@given(model=models())
def test_state_dict_holds_the_tensors_of_state_spec(model):
    state = quantize(model, "int8-native").state_dict()
    assert {name: (x.dtype, tuple(x.shape)) for name, x in state.items()} == state_spec(model.config)
    assert {tensor.dtype for tensor in state.values()} == {torch.int8, torch.float32}


def test_quantizing_leaves_the_model_unchanged_and_shares_no_memory(model):
    before = copy.deepcopy(model.state_dict())
    quantized, source = quantize(model, "int8-native"), batchify(random_ids(30, 60, 0), 1)
    loss = evaluate(quantized, source, 25)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    assert evaluate(copy.deepcopy(quantized), source, 25) == loss


def test_deepcopy_copies_the_weights_and_packs_them_again(model):
    quantized, source = quantize(model, "int8-native"), batchify(random_ids(30, 60, 0), 1)
    loss = evaluate(quantized, source, 25)
    other = copy.deepcopy(quantized)
    assert evaluate(other, source, 25) == loss
    assert quantized.decoder.weight.data_ptr() != other.decoder.weight.data_ptr()
    if load_library():
        assert quantized._packed is not other._packed


def test_size_is_one_byte_per_weight_and_four_per_row_and_bias(model):
    weights = sum(weight.numel() for name, weight in model.named_parameters() if "weight" in name)
    rows = sum(len(weight) for name, weight in model.named_parameters() if "weight" in name)
    biases = 30 + 2 * 32  # the decoder's, and those of each layer's gates
    assert 0 < model_size(quantize(model, "int8-native")).total - (weights + 4 * rows + 4 * biases) < 8_000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_quantize_refuses_weights_that_are_not_finite(model, value):
    model.decoder.weight.data[3, 3] = value
    with pytest.raises(QuantizationError, match=r"expected finite numbers in decoder\.weight, found NaN or infinity"):
        quantize(model, "int8-native")


def test_quantize_refuses_a_quantized_model(model):
    with pytest.raises(QuantizationError, match="nothing to quantize: expected"):
        quantize(quantize(model, "int8"), "int8-native")
