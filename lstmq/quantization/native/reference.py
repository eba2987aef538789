"""The arithmetic of int8-native in plain PyTorch.

Every kernel must return the same bits as this module. Where there are no kernels, this module computes.

A row of numbers is stored as integers from -127 to 127 and one float32 scale: its largest magnitude divided by 127. The
row's values are the integers times the scale. Rows of weights are quantized once, and the embedding's rows are used as
they are stored. Each step's output is quantized once, for all the products that read it. Products of integers are
exact. Multiplied by both scales they become float32, and stay float32 until the next quantization, which rounds to the
nearest integer, half to even. A row with NaN or infinity has the scale NaN, so all that is computed from it is NaN.

Operations must not be contracted, and the exponential is written out, so that a kernel can return the same bits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lstmq.model import Hidden
from lstmq.quantization.native.weights import LinearWeights, QuantizedRows, RecurrentWeights, Weights

INT8_MAX = 127
SMALLEST_MAGNITUDE = 1e-30  # a row with no larger magnitude is zero: 127 divided by it would overflow
ROUNDING = 1.5 * 2**23  # adding and subtracting it rounds a float32 half to even
EXPONENTIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def quantize_rows(values: Tensor) -> QuantizedRows:
    """Quantize each row of a float32 matrix, shape ``(rows, width)``, by its own largest magnitude."""
    largest = values.abs().amax(dim=1)
    zero, finite = largest <= SMALLEST_MAGNITUDE, largest.isfinite()
    # A tensor of 127s, because torch divides a number by a tensor as number * reciprocal, which rounds twice.
    inverse = torch.where(zero, 0.0, torch.full_like(largest, INT8_MAX) / largest)
    integers = torch.where(finite[:, None], values * inverse[:, None], 0.0).round().to(torch.int8)
    scale = torch.where(zero, 0.0, largest / INT8_MAX)
    return QuantizedRows(integers, torch.where(finite, scale, torch.nan))


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


class DirectionOutput(NamedTuple):
    """What one direction of one layer returns."""

    output: Tensor  # float32, shape (rows, width): h of each step and column, in the order of the input
    quantized: QuantizedRows  # the same, quantized row by row
    h: Tensor  # float32, shape (columns, width): after each column's last step
    c: Tensor | None  # of an LSTM: float32, shape (columns, hidden_size)


def run_direction(
    kind: str,
    x: Tensor | QuantizedRows,
    weights: RecurrentWeights,
    h: Tensor,
    c: Tensor | None,
    batch_sizes: Sequence[int],
    reverse: bool = False,
) -> DirectionOutput:
    """Read sequences side by side with one direction of one layer.

    Args:
        kind: ``LSTM`` or ``GRU``.
        x: float32, shape ``(rows, input_size)``, which is quantized row by row; or rows that are quantized already. The
            rows of the first step come first, as in a ``PackedSequence``.
        weights: of this layer and direction.
        h: float32, shape ``(columns, width)``, before the first step.
        c: float32, shape ``(columns, hidden_size)``; ``None`` for a GRU.
        batch_sizes: the number of columns in each step. It does not increase, because the longest sequence is the first
            column. The first number is that of all columns, and the sum is that of the rows.
        reverse: whether to read from the last step to the first. A column begins at its own last step.
    """
    x = x if isinstance(x, QuantizedRows) else quantize_rows(x)
    projected = torch.split(matmul(x, weights.input) + weights.bias, list(batch_sizes))
    h, c, quantized = h.clone(), None if c is None else c.clone(), quantize_rows(h)
    outputs: list[Tensor] = [h] * len(batch_sizes)
    rows: list[QuantizedRows] = [quantized] * len(batch_sizes)
    steps = range(len(batch_sizes))
    for t in reversed(steps) if reverse else steps:
        n = batch_sizes[t]
        before = QuantizedRows(quantized.integers[:n], quantized.scale[:n])
        stepped = matmul(before, weights.recurrent)
        if kind == "GRU" or c is None:
            outputs[t] = gru_step(projected[t], stepped, weights, h[:n])
        else:
            outputs[t], c[:n] = lstm_step(projected[t], stepped, weights, c[:n])
        rows[t] = quantize_rows(outputs[t])
        h[:n] = outputs[t]
        quantized.integers[:n], quantized.scale[:n] = rows[t]
    joined = QuantizedRows(*map(torch.cat, zip(*rows, strict=True)))
    return DirectionOutput(torch.cat(outputs), joined, h, c)


def lstm_step(projected: Tensor, stepped: Tensor, weights: RecurrentWeights, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``h`` and ``c`` after a step.

    Args:
        projected: the product with the input, and the bias; float32, shape ``(n, 4 * hidden_size)``.
        stepped: the product with the state, of the same shape.
        weights: of this layer and direction.
        c: before the step, float32, shape ``(n, hidden_size)``.
    """
    i, f, g, o = (stepped + projected).chunk(4, dim=1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return (h if weights.projection is None else matmul(quantize_rows(h), weights.projection)), c


def gru_step(projected: Tensor, stepped: Tensor, weights: RecurrentWeights, h: Tensor) -> Tensor:
    """Return ``h`` after a step. Arguments as for :func:`lstm_step`, with 3 gates and ``h`` of before the step."""
    r, z, n = projected.chunk(3, dim=1)
    stepped_r, stepped_z, stepped_n = stepped.chunk(3, dim=1)
    r, z = sigmoid(r + stepped_r), sigmoid(z + stepped_z)
    stepped_n = stepped_n if weights.new_bias is None else stepped_n + weights.new_bias
    n = tanh(n + r * stepped_n)
    return (h - n) * z + n


def run_recurrent(
    kind: str,
    layers: Sequence[Sequence[RecurrentWeights]],
    x: Tensor,
    batch_sizes: Sequence[int],
    h0: Tensor,
    c0: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Read sequences side by side with all layers and directions, as ``nn.LSTM`` and ``nn.GRU`` do.

    A layer reads what the layer before quantized. After a layer with two directions, it reads both of their outputs,
    joined and quantized anew, row by row.

    Args:
        kind: ``LSTM`` or ``GRU``.
        layers: for each layer, the weights of one or two directions.
        x: float32, shape ``(rows, input_size)``, as for :func:`run_direction`.
        batch_sizes: as for :func:`run_direction`.
        h0: float32, shape ``(layers * directions, columns, width)``.
        c0: float32, shape ``(layers * directions, columns, hidden_size)``; ``None`` for a GRU.

    Returns:
        The output, float32, shape ``(rows, directions * width)``; and ``h`` and ``c`` after it.
    """
    rows: Tensor | QuantizedRows = x
    states: list[DirectionOutput] = []
    for directions in layers:
        results = []
        for reverse, weights in enumerate(directions):
            k = len(states) + reverse
            c = None if c0 is None else c0[k]
            results.append(run_direction(kind, rows, weights, h0[k], c, batch_sizes, bool(reverse)))
        states += results
        output = torch.cat([result.output for result in results], dim=1)
        rows = results[0].quantized if len(results) == 1 else output
    cells = [state.c for state in states if state.c is not None]
    return output, torch.stack([state.h for state in states]), torch.stack(cells) if cells else None


def linear(weights: LinearWeights, x: Tensor) -> Tensor:
    """Return ``x @ weights.T + bias``, float32, for rows of float32 that are quantized one by one."""
    return matmul(quantize_rows(x), weights.rows) + weights.bias


def embedding(rows: QuantizedRows, ids: Tensor) -> Tensor:
    """Return rows as float32, shape ``(*shape of ids, width)``."""
    return rows.integers[ids] * rows.scale[ids][..., None]


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
        result = run_direction("LSTM", x, layer, h, c, [bsz] * n)
        x = result.quantized
        states.append((result.h, result.c))
    after_h, after_c = map(torch.stack, zip(*states, strict=True))
    return (matmul(x, weights.decoder) + weights.decoder_bias).view(n, bsz, -1), (after_h, after_c)
