"""Laws of int8 of our own as an engine; that its kernels compute rightly, ``test_kernels.py`` shows."""

import copy
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmq import QuantizationError, batchify, evaluate, model_size, quantize
from lstmq.cli.compare import provenance
from lstmq.comparison.machine import describe_machine
from lstmq.quantization.native import kernels
from lstmq.quantization.native.model import state_spec
from lstmq.quantization.schemes import select_schemes
from lstmq.workload.loading import load_workload
from strategies import models, seeds, stream


@given(model=models(), bsz=st.integers(1, 3), bptt=st.integers(1, 30), seed=seeds)
def test_state_that_is_carried_equals_one_long_window(model, bsz, bptt, seed):
    """To the bit but for the sum: a step is quantized by its own range, whatever the window."""
    source = batchify(stream(model.config.ntoken, 40 * bsz, seed), bsz)
    quantized = quantize(model, "int8-native")
    assert evaluate(quantized, source, bptt) == pytest.approx(evaluate(quantized, source, 100), rel=1e-6)


@given(model=models(max_width=40), bsz=st.integers(1, 3), seed=seeds)
def test_its_state_is_float32s_within_8_bits_whatever_the_biases(model, bsz, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bias" in name:
                weight.uniform_(-2, 2, generator=generator)
    ids = stream(model.config.ntoken, 20 * bsz, seed).view(20, bsz)
    with torch.no_grad():
        _, (h, c) = model.eval()(ids, model.init_hidden(bsz))
    _, (told_h, told_c) = quantize(model, "int8-native")(ids, model.init_hidden(bsz))
    assert (told_h - h).abs().max() < 0.05
    assert (told_c - c).abs().max() < 0.05 * max(1, c.abs().max().item())


@given(model=models())
def test_its_state_is_plain_tensors_of_the_shapes_that_are_said(model):
    state = quantize(model, "int8-native").state_dict()
    told = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}
    assert told == state_spec(model.config)
    assert {tensor.dtype for tensor in state.values()} == {torch.int8, torch.float32}


def test_the_model_is_as_it_was_and_shares_nothing(model):
    before = copy.deepcopy(model.state_dict())
    quantized, source = quantize(model, "int8-native"), batchify(stream(30, 60, 0), 1)
    loss = evaluate(quantized, source, 25)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    assert evaluate(copy.deepcopy(quantized), source, 25) == loss


def test_a_copys_weights_lie_elsewhere_packed_ones_too(model):
    quantized, source = quantize(model, "int8-native"), batchify(stream(30, 60, 0), 1)
    loss = evaluate(quantized, source, 25)
    other = copy.deepcopy(quantized)
    assert evaluate(other, source, 25) == loss
    assert quantized.decoder.weight.data_ptr() != other.decoder.weight.data_ptr()
    if kernels.load_library():
        assert quantized._packed is not other._packed


def test_it_weighs_a_byte_a_weight_and_twelve_a_row(model):
    weights = sum(weight.numel() for name, weight in model.named_parameters() if "weight" in name)
    rows = sum(len(weight) for name, weight in model.named_parameters() if "weight" in name)
    biases = 30 + 2 * 32  # of the decoder, and of each layer's gates
    assert 0 < model_size(quantize(model, "int8-native")).total - (weights + 4 * rows + 4 * biases) < 8_000


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(model, wrong):
    model.decoder.weight.data[3, 3] = wrong
    with pytest.raises(QuantizationError, match=r"expected finite numbers in decoder\.weight, found NaN or infinity"):
        quantize(model, "int8-native")


def test_a_quantized_model_is_not_quantized_again(model):
    with pytest.raises(QuantizationError, match="nothing to quantize: expected"):
        quantize(quantize(model, "int8"), "int8-native")


@pytest.mark.skipif(kernels.load_library() is None, reason="the kernels were not built")
def test_where_plain_c_is_all_there_is_it_is_not_measured_unasked(model, monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: ["reference", "portable"])
    assert select_schemes([], model)[1]["int8-native"] == "a kernel for this processor: plain C is slower than float32"
    assert select_schemes(["int8-native"], model) == (("int8-native",), {})


@pytest.fixture
def without_kernels(monkeypatch):
    """As it is where nothing could be compiled."""
    kernels.load_library.cache_clear()
    monkeypatch.setitem(sys.modules, "lstmq.quantization.native._kernels", None)
    yield
    kernels.load_library.cache_clear()


def test_without_kernels_the_reference_computes_and_that_is_said(model, without_kernels, monkeypatch):
    monkeypatch.delenv(kernels.ISA_VARIABLE, raising=False)
    assert kernels.available_isas() == ["reference"]
    source = batchify(stream(30, 60, 0), 1)
    loss = evaluate(quantize(model, "int8-native"), source, 25)
    assert loss == pytest.approx(evaluate(model, source, 25), abs=0.02)
    machine = describe_machine()
    assert machine["native"] == "reference"
    assert "int8-native: computed by reference" in [*provenance(load_workload(tokens=200), machine, ["int8-native"])]
    left_out = select_schemes([], model)[1]
    assert left_out["int8-native"] == "its kernels: install lstmq where there is a C compiler"
    assert select_schemes(["int8-native"], model) == (("int8-native",), {})
    monkeypatch.setenv(kernels.ISA_VARIABLE, "avx2")
    with pytest.raises(ValueError, match="expected one of reference, found 'avx2'; it wants its kernels"):
        kernels.selected_isa()
