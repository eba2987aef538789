"""Laws of calls: nothing of a wrong size, dtype or value reaches a kernel, and no kernel that cannot run is called."""

from dataclasses import replace

import pytest
import torch

from lstmq.quantization.native.library import KERNEL_ISAS, available_isas, load_library
from lstmq.quantization.native.model import quantize_native
from lstmq.quantization.native.packing import PackedModel

pytestmark = pytest.mark.skipif(load_library() is None, reason="the kernels were not built")


@pytest.mark.parametrize(
    ("input", "targets", "bsz", "dtype", "message"),
    [
        ([[30]], [[0]], 1, torch.float32, "expected ids from 0 to 29, found another"),
        ([[-1]], [[0]], 1, torch.float32, "expected ids from 0 to 29, found another"),
        ([[0]], [[30]], 1, torch.float32, "expected ids from 0 to 29, found another"),
        ([[0]], [[-1]], 1, torch.float32, "expected ids from 0 to 29, found another"),
        ([[0], [1]], [[0]], 1, torch.float32, r"targets: expected torch.int64 of shape \(2, 1\) .* shape \(1, 1\)"),
        ([0], [0], 1, torch.float32, r"expected ids of shape \(n, bsz\), found \(1,\)"),
        ([[]], [[]], 1, torch.float32, r"expected ids of shape \(n, bsz\), found \(1, 0\)"),
        ([[0.5]], [[0]], 1, torch.float32, "input: expected torch.int64"),
        ([[0]], [[0]], 2, torch.float32, r"hidden: expected torch.float32 of shape \(2, 1, 8\)"),
        ([[0]], [[0]], 1, torch.float64, r"hidden: expected torch.float32 of shape .*, found torch.float64"),
    ],
)
def test_window_loss_refuses_wrong_shapes_dtypes_and_ids(isa, model, input, targets, bsz, dtype, message):
    quantized = quantize_native(model)
    h, c = quantized.init_hidden(bsz)
    with pytest.raises(ValueError, match=message):
        quantized.window_loss(torch.tensor(input), torch.tensor(targets), (h.to(dtype), c.to(dtype)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ntoken": 29}, r"encoder.weight: expected torch.int8 of shape \(29, 16\) on the CPU, found .* \(30, 16\)"),
        ({"nhid": 9}, r"decoder.weight: expected torch.int8 of shape \(30, 9\)"),
        ({"nlayers": 1}, "expected 10 tensors, found 15; the first difference is 'layers.1.input.bias'"),
        ({"ninp": 2**16 + 1}, "expected at most 65,536 columns, found 65,537"),
    ],
)
def test_packing_refuses_weights_that_do_not_fit_the_configuration(model, change, message):
    state = quantize_native(model).state_dict()
    with pytest.raises(ValueError, match=message):
        PackedModel(state, replace(model.config, **change))


def test_packing_refuses_a_bias_of_another_length(model):
    state = quantize_native(model).state_dict()
    state["layers.1.input.bias"] = state["decoder.bias"]
    with pytest.raises(ValueError, match=r"layers.1.input.bias: expected torch.float32 of shape \(32,\)"):
        PackedModel(state, model.config)


def test_packed_model_refuses_kernels_that_cannot_run_here(model):
    packed = PackedModel(quantize_native(model).state_dict(), model.config)
    ids, kernels = torch.zeros(1, 1, dtype=torch.int64), available_isas()[1:]
    for name in {"reference", "sse9", *KERNEL_ISAS} - {*kernels}:
        with pytest.raises(ValueError, match=f"expected one of {', '.join(kernels)}, found '{name}'"):
            packed.logits(name, ids, model.init_hidden(1))
