"""Int8 arithmetic of our own, in plain PyTorch: what every kernel is held against, and what runs where there is none.

A row of numbers is stored as integers in [-127, 127] and one float32 scale, its largest magnitude over 127; it stands
for the integers times the scale. Rows of weights are quantized once, rows of activations as they come: the embedding's
are stored so, and the LSTM's outputs are made so at every step, once for all the products that they go into. Products
of integers are exact; they become float32 when they are multiplied by both scales, and stay so until the next rounding,
to the nearest, half to even.

No operation is contracted with another, and the exponential is written out, so that a kernel gives these very bits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lstmq.model import Hidden

INT8_MAX = 127
SMALLEST_MAGNITUDE = 1e-30  # magnitudes up to this are zero: 127 over them overflows
ROUNDING = 1.5 * 2**23  # added and taken away, it rounds a float32 half to even
EXPONENTIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


class QuantizedRows(NamedTuple):
    """Rows of integers."""

    integers: Tensor  # int8, shape (rows, width)
    scale: Tensor  # float32, shape (rows,)


class LSTMLayer(NamedTuple):
    """The weights of an LSTM layer, gates in torch's order: i, f, g, o."""

    input: QuantizedRows  # (4 * nhid, width of what it reads)
    recurrent: QuantizedRows  # (4 * nhid, nhid)
    bias: Tensor  # float32, shape (4 * nhid,): both of torch's


def quantize_rows(numbers: Tensor) -> QuantizedRows:
    """Return the rows of a float32 matrix, shape ``(rows, width)``, as integers."""
    most = numbers.abs().amax(dim=1)
    zero = most <= SMALLEST_MAGNITUDE
    largest = torch.full_like(most, INT8_MAX)  # of a number over a tensor, torch makes a product with the reciprocal
    inverse = torch.where(zero, 0.0, largest / most)
    integers = (numbers * inverse[:, None]).round().to(torch.int8)
    return QuantizedRows(integers, torch.where(zero, 0.0, most / INT8_MAX))


def matmul(x: QuantizedRows, weights: QuantizedRows) -> Tensor:
    """Return ``x @ weights.T`` as float32, shape ``(rows of x, rows of weights)``."""
    exact = x.integers.double() @ weights.integers.double().T  # whole numbers far below 2^53
    return exact.float() * (x.scale[:, None] * weights.scale)


def exponential(x: Tensor) -> Tensor:
    """Return ``exp(x)``, float32, within 2e-7 of it; outside of [-87, 88] that of the nearer end.

    The polynomial is that of Moshier's Cephes, ``expf``.
    """
    x = x.clamp(-87, 88)
    rounded = x * 1.44269504 + ROUNDING  # x over the logarithm of 2, in the last bits
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
    """Return the hyperbolic tangent, float32, within 3e-7 of it."""
    return 2 * sigmoid(2 * x) - 1


def run_layers(
    encoder: QuantizedRows, layers: Sequence[LSTMLayer], input: Tensor, hidden: Hidden
) -> tuple[QuantizedRows, Hidden]:
    """Read a window up to the decoder.

    Args:
        encoder: the embedding, a row a word.
        layers: of the LSTM.
        input: int64 ids, shape ``(n, bsz)``.
        hidden: the state before, as :data:`~lstmq.Hidden` says.

    Returns:
        the last layer's output, ``n * bsz`` rows of ``nhid``, and the state after.
    """
    n, bsz = input.shape
    x = QuantizedRows(encoder.integers[input.flatten()], encoder.scale[input.flatten()])
    states = []
    for layer, h, c in zip(layers, *hidden, strict=True):
        prepared = (matmul(x, layer.input) + layer.bias).view(n, bsz, -1)
        before, outputs = quantize_rows(h), []
        for step in prepared:
            i, f, g, o = (matmul(before, layer.recurrent) + step).chunk(4, dim=1)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            before = quantize_rows(h)
            outputs.append(before)
        x = QuantizedRows(*map(torch.cat, zip(*outputs, strict=True)))
        states.append((h, c))
    after_h, after_c = map(torch.stack, zip(*states, strict=True))
    return x, (after_h, after_c)
