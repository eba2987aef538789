"""Schemes that are wrong on purpose, each in its own way. Each function takes a float32 model and returns a new one."""

import copy
from dataclasses import replace
from unittest import mock

from lstmq.quantization import SCHEMES

WEIGHTS = ("rnn.weight", "decoder.weight")


def as_float(model):
    return copy.deepcopy(model)


def linear_only(model):
    from torch import ao, nn

    return ao.quantization.quantize_dynamic(model, {nn.Linear})


def lstm_only(model):
    from torch import ao, nn

    return ao.quantization.quantize_dynamic(model, {nn.LSTM})


def scales_off(model):
    """Quantize weights that are 5 % too large: the integers are right, their scales are not."""
    return SCHEMES["int8"].quantize(_scale(model, 1.05, *WEIGHTS))


def layer_zeroed(model):
    return SCHEMES["int8"].quantize(_scale(model, 0, "rnn.weight_ih_l1", "rnn.weight_hh_l1"))


def grown(model):
    import torch

    from lstmq import model_size

    quantized = SCHEMES["int8"].quantize(model)
    quantized.register_buffer("ballast", torch.zeros(model_size(quantized).total // 50, dtype=torch.uint8))
    return quantized


def native_scales_off(model):
    return SCHEMES["int8-native"].quantize(_scale(model, 1.05, *WEIGHTS))


def native_tile_dropped(model):
    """Leave out 64 columns of 64 words, as a kernel does that stops one tile too early."""
    quantized = SCHEMES["int8-native"].quantize(model)
    quantized.get_buffer("decoder.weight")[64:128, :64] = 0
    return quantized


def native_falls_back(model):
    """Compute the right losses with the slowest kernel, whatever the processor supports."""
    quantized = SCHEMES["int8-native"].quantize(model)
    # Change the class, because copies of the model must fall back too.
    quantized.__class__ = type("PortableModel", (type(quantized),), {"window_loss": _portable_window_loss})
    return quantized


def _portable_window_loss(model, *window):
    return model._pack().window_loss("portable", *window)


def modules_direction_dropped(model):
    """Let the direction from the end to the start return zeros."""
    quantized = SCHEMES["int8-native"].quantize(model)
    for name, tensor in quantized.state_dict().items():
        if name.endswith("_reverse"):
            tensor.zero_()
    return quantized


def modules_gates_swapped(model):
    """Read the reset gates of GRUs as update gates, and the other way around."""
    import torch

    quantized = SCHEMES["int8-native"].quantize(model)
    for name, tensor in quantized.state_dict().items():
        if name.rpartition(".")[2].startswith(("int8_", "scale_", "gate_")):
            reset, update, new = tensor.chunk(3)
            tensor.copy_(torch.cat([update, reset, new]))
    return quantized


def modules_column_stale(model):
    """Let the last column of recurrent modules return what it returned one step before."""
    quantized = SCHEMES["int8-native"].quantize(model)
    for module in quantized.modules():
        if hasattr(module, "flatten_parameters"):
            module.register_forward_hook(_last_column_stale)
    return quantized


def _last_column_stale(_module, _inputs, output):
    output[0][1:, -1] = output[0][:-1, -1].clone()


def ort_as_float(model):
    return SCHEMES["ort-fp32"].quantize(model)


def ort_scales_off(model):
    return SCHEMES["ort-int8"].quantize(_scale(model, 1.05, *WEIGHTS))


def ort_gates_in_torchs_order(model):
    with mock.patch("lstmq.quantization.onnx.graph.to_onnx_gate_order", lambda gates: gates[None]):
        return SCHEMES["ort-int8"].quantize(model)


def _scale(model, factor, *names):
    """Return a copy of a model whose parameters with these names are multiplied by ``factor``."""
    scaled = copy.deepcopy(model)
    for name, weight in scaled.named_parameters():
        if name.startswith(names):
            weight.data *= factor
    return scaled


BROKEN = {
    "int8": (as_float, linear_only, lstm_only, scales_off, layer_zeroed, grown),
    "int8-native": (
        *(native_scales_off, native_tile_dropped, native_falls_back),
        *(modules_direction_dropped, modules_gates_swapped, modules_column_stale),
    ),
    "ort-int8": (ort_as_float, ort_scales_off, ort_gates_in_torchs_order),
}
"""The broken schemes by the correct one that each resembles."""


def add_schemes():
    for name, functions in BROKEN.items():
        for function in functions:
            SCHEMES[function.__name__] = replace(SCHEMES[name], quantize=function)
