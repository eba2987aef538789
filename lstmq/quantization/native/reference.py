"""The arithmetic of int8-native in plain PyTorch.

Every kernel must return the same bits as this module. Where there are no kernels, this module computes.

A row of numbers is stored as integers from -127 to 127 and one float32 scale: its largest magnitude divided by 127. The
row's values are the integers times the scale. Rows of weights are quantized once, and the embedding's rows are used as
they are stored. Each step's LSTM output is quantized once, for all the products that read it. Products of integers are
exact. Multiplied by both scales they become float32, and stay float32 until the next quantization, which rounds to the
nearest integer, half to even.

Operations must not be contracted, and the exponential is written out, so that a kernel can return the same bits.
"""

import torch
from torch import Tensor

from lstmq.model import Hidden
from lstmq.quantization.native.weights import QuantizedRows, Weights

INT8_MAX = 127
SMALLEST_MAGNITUDE = 1e-30  # a row with no larger magnitude is zero: 127 divided by it would overflow
ROUNDING = 1.5 * 2**23  # adding and subtracting it rounds a float32 half to even
EXPONENTIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def quantize_rows(values: Tensor) -> QuantizedRows:
    """Quantize each row of a float32 matrix, shape ``(rows, width)``, by its own largest magnitude."""
    largest = values.abs().amax(dim=1)
    zero = largest <= SMALLEST_MAGNITUDE
    # A tensor of 127s, because torch divides a number by a tensor as number * reciprocal, which rounds twice.
    inverse = torch.where(zero, 0.0, torch.full_like(largest, INT8_MAX) / largest)
    integers = (values * inverse[:, None]).round().to(torch.int8)
    return QuantizedRows(integers, torch.where(zero, 0.0, largest / INT8_MAX))


def matmul(x: QuantizedRows, weights: QuantizedRows) -> Tensor:
    """Return ``x @ weights.T`` as float32, shape ``(rows of x, rows of weights)``."""
    exact = x.integers.double() @ weights.integers.double().T  # integers far below 2^53
    return exact.float() * (x.scale[:, None] * weights.scale)


def exponential(x: Tensor) -> Tensor:
    """Return ``exp(x)``, float32, within a relative error of 2e-7, after clamping ``x`` to [-87, 88].

    The polynomial is that of Moshier's Cephes library, ``expf``.
    """
    x = x.clamp(-87, 88)
    rounded = x * 1.44269504 + ROUNDING  # x / log(2), rounded, in the last bits
    n = rounded - ROUNDING
    r = (x - n * 0.693359375) + n * 2.12194440e-4
    p = torch.full_like(x, EXPONENTIAL[0])
    for coefficient in EXPONENTIAL[1:]:
        p = p * r + coefficient
    p = p * (r * r) + r + 1
    power = (rounded.view(torch.int32) - torch.tensor(ROUNDING).view(torch.int32) + 127) << 23
    return p * power.view(torch.float32)


def sigmoid(x: Tensor) -> Tensor:
    """Return ``1 / (1 + exp(-x))``, float32."""
    return 1 / (1 + exponential(-x))


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent, float32, within 3e-7."""
    return 2 * sigmoid(2 * x) - 1


def logits(weights: Weights, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
    """Return the logits of a window and the state after it.

    Args:
        weights: the model's weights.
        input: int64 ids, shape ``(n, bsz)``.
        hidden: the state before the window, float32, shape ``(nlayers, bsz, nhid)`` each.

    Returns:
        Logits, float32, shape ``(n, bsz, ntoken)``; and the state after the window.
    """
    n, bsz = input.shape
    x = QuantizedRows(weights.encoder.integers[input.flatten()], weights.encoder.scale[input.flatten()])
    states = []
    for layer, h, c in zip(weights.layers, *hidden, strict=True):
        projected = (matmul(x, layer.input) + layer.bias).view(n, bsz, -1)
        quantized_h, outputs = quantize_rows(h), []
        for step in projected:
            i, f, g, o = (matmul(quantized_h, layer.recurrent) + step).chunk(4, dim=1)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            quantized_h = quantize_rows(h)
            outputs.append(quantized_h)
        x = QuantizedRows(*map(torch.cat, zip(*outputs, strict=True)))
        states.append((h, c))
    after_h, after_c = map(torch.stack, zip(*states, strict=True))
    return (matmul(x, weights.decoder) + weights.decoder_bias).view(n, bsz, -1), (after_h, after_c)
