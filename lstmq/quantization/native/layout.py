"""How the weights of linear and recurrent modules are named, and ordered in a list of tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lstmq.quantization.native.weights import LinearWeights, QuantizedRows, RecurrentWeights

GATES = {"LSTM": 4, "GRU": 3}


class RecurrentLayout(NamedTuple):
    """What a recurrent module is made of. A cell is a layer with one direction.

    Attributes:
        kind: ``LSTM`` or ``GRU``.
        layers: number of layers.
        directions: 1 or 2.
        bias: whether there are biases.
        projection: whether the output is projected.
    """

    kind: str
    layers: int = 1
    directions: int = 1
    bias: bool = True
    projection: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the tensors of one direction, without the suffix that tells layers and directions apart."""
        names = ["int8_ih", "scale_ih", "int8_hh", "scale_hh"]
        names += ["gate_bias"] * self.bias + ["new_bias"] * (self.bias and self.kind == "GRU")
        return (*names, *["int8_hr", "scale_hr"] * self.projection)

    @property
    def suffixes(self) -> list[str]:
        """What torch appends to the names of weights, by layer and direction. Cells do without."""
        both = ("", "_reverse")[: self.directions]
        return [f"_l{layer}{direction}" for layer in range(self.layers) for direction in both]

    def weights(self, tensors: Sequence[Tensor]) -> list[list[RecurrentWeights]]:
        """Return the weights of each direction of each layer.

        Args:
            tensors: those of all layers and directions, one after the other. Each has those of :attr:`parts`.

        Raises:
            ValueError: if a tensor has another dtype.
        """
        check_dtypes(tensors)
        size, found = len(self.parts), []
        for start in range(0, len(tensors), size):
            part = dict(zip(self.parts, tensors[start : start + size], strict=True))
            rows = {name: QuantizedRows(part[f"int8_{name}"], part[f"scale_{name}"]) for name in ("ih", "hh")}
            height = rows["ih"].integers.shape[0]
            no_bias = torch.zeros(height, dtype=torch.float32, device="cpu")
            new_bias = part.get("new_bias", no_bias[: height // 3]) if self.kind == "GRU" else None
            projection = QuantizedRows(part["int8_hr"], part["scale_hr"]) if self.projection else None
            bias = part.get("gate_bias", no_bias)
            found.append(RecurrentWeights(rows["ih"], rows["hh"], bias, new_bias, projection))
        return [found[start : start + self.directions] for start in range(0, len(found), self.directions)]


def linear_weights(tensors: Sequence[Tensor]) -> LinearWeights:
    """Return the weights of a linear layer: integers, scale, and perhaps a bias. Errors as for the dtypes."""
    check_dtypes(tensors)
    integers, scale, *bias = tensors
    no_bias = torch.zeros(len(scale), dtype=torch.float32, device="cpu")
    return LinearWeights(QuantizedRows(integers, scale), bias[0] if bias else no_bias)


def check_dtypes(tensors: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` unless matrices are int8, and scales and biases float32."""
    for tensor in tensors:
        expected = torch.int8 if tensor.dim() == 2 else torch.float32
        if tensor.dtype != expected:
            raise ValueError(f"weights of a module in int8: expected {expected}, found {tensor.dtype}")
