"""Drop-in modules with int8 weights: :class:`Int8Linear`, :class:`Int8Embedding`, and what all of them have in common.

``recurrent.py`` has those that replace ``nn.LSTM``, ``nn.GRU`` and their cells.
"""

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmq.errors import QuantizationError
from lstmq.quantization.eager import uncompiled
from lstmq.quantization.native.operators import call_linear, check_transforms
from lstmq.quantization.native.reference import quantize_rows
from lstmq.quantization.native.weights import MAX_COLUMNS

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class Int8Module(nn.Module):
    """A module whose weights are rows of int8, with a float32 scale for each row, and float32 biases.

    The integers are buffers. Scales and biases are parameters that need no gradients, so that
    ``next(model.parameters())`` finds a float32 tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, str] = {}  # suffixes of names of rows, by torch's name of the weight
        self._accepted: dict[str, tuple[weakref.ref[Tensor], int | None]] = {}  # what was quantized by torch's name
        self.eval()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy starts with. It has other tensors, so it has accepted none yet."""
        return self.__dict__ | {"_accepted": {}}

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """Load parameters. If torch before 2.3 assigns them, they need gradients."""
        super()._load_from_state_dict(*arguments)
        for parameter in self._parameters.values():
            if parameter is not None and parameter.requires_grad:
                parameter.requires_grad_(False)

    def add_rows(self, weight: str, suffix: str, height: int, width: int) -> None:
        """Add rows of zeros: the buffer ``int8SUFFIX`` and the parameter ``scaleSUFFIX``.

        Args:
            weight: what torch calls the weight.
            suffix: what follows in our names.
            height: number of rows.
            width: number of columns.

        Raises:
            QuantizationError: if the rows are too wide for exact products in int32.
        """
        if not 0 < width <= MAX_COLUMNS:
            raise QuantizationError(f"expected from 1 to {MAX_COLUMNS:,} columns, found {width:,}")
        self._rows[weight] = suffix
        self.register_buffer(f"int8{suffix}", torch.zeros(height, width, dtype=torch.int8, device="cpu"))
        self.add_floats(f"scale{suffix}", height)

    def add_floats(self, name: str, size: int) -> None:
        """Add a parameter of zeros, float32, shape ``(size,)``."""
        zeros = torch.zeros(size, dtype=torch.float32, device="cpu")
        self.register_parameter(name, nn.Parameter(zeros, requires_grad=False))

    def set_rows(self, weight: str, integers: Tensor, scale: nn.Parameter) -> None:
        """Replace rows by others of the same shape. Tied modules get the same tensors."""
        self._buffers[f"int8{self._rows[weight]}"] = integers
        self._parameters[f"scale{self._rows[weight]}"] = scale

    def set_floats(self, name: str, values: Tensor) -> None:
        """Replace a parameter that :meth:`add_floats` added by a copy of other values."""
        self._parameters[name] = nn.Parameter(values.detach().clone(), requires_grad=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Quantize a weight that is set by torch's name. Some wrappers set the weight of their module at every call."""
        if isinstance(value, Tensor) and name in self.__dict__.get("_rows", ()):
            quantize_again(self, name, value)
        else:
            super().__setattr__(name, value)


def quantize_again(module: Int8Module, name: str, value: Tensor) -> None:
    """Replace rows of a module by those of a float32 weight, unless they were quantized from this tensor before.

    Raises:
        ValueError: if the weight has another shape.
    """
    with uncompiled():
        version = None if value.is_inference() else value._version  # torch counts no changes in inference mode
        known, known_version = module._accepted.get(name, (None, None))
        if known is not None and known() is value and version is not None and known_version == version:
            return
        suffix = module._rows[name]
        integers, scale = module.get_buffer(f"int8{suffix}"), module.get_parameter(f"scale{suffix}")
        if value.shape != integers.shape:
            raise ValueError(f"{name}: expected shape {tuple(integers.shape)}, found {tuple(value.shape)}")
        rows = quantize_rows(value.detach().float())
        if not torch.equal(rows.integers, integers) or not torch.equal(rows.scale, scale):
            module.set_rows(name, rows.integers, nn.Parameter(rows.scale, requires_grad=False))
        module._accepted[name] = weakref.ref(value), version


# torch.compile calls this function as it is. This is what torch.compiler.disable says, whose import takes seconds.
quantize_again._torchdynamo_disable = True  # type: ignore[attr-defined]


class Int8Linear(Int8Module):
    """Stands in for ``nn.Linear``.

    Args:
        in_features: as for ``nn.Linear``.
        out_features: as for ``nn.Linear``.
        bias: whether there is a bias.

    Attributes:
        int8: int8, shape ``(out_features, in_features)``.
        scale: float32, shape ``(out_features,)``.
        bias: float32, shape ``(out_features,)``; or ``None``.
    """

    int8: Tensor
    scale: Tensor
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.add_rows("weight", "", out_features, in_features)
        if bias:
            self.add_floats("bias", out_features)
        else:
            self.register_parameter("bias", None)

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def forward(self, input: Tensor) -> Tensor:
        """Return the output, in the dtype of the input, shape ``(..., out_features)``.

        Args:
            input: float32, float16 or bfloat16, shape ``(..., in_features)``.
        """
        check_input("input", input, self.in_features)
        tensors = [self.int8, self.scale] if self.bias is None else [self.int8, self.scale, self.bias]
        rows = input.reshape(-1, self.in_features).float()
        return call_linear(rows, tensors).view(*input.shape[:-1], self.out_features).to(input.dtype)


class Int8Embedding(Int8Module):
    """Stands in for ``nn.Embedding``.

    Args:
        num_embeddings: as for ``nn.Embedding``.
        embedding_dim: as for ``nn.Embedding``.
        padding_idx: kept as an attribute. Its row is a row like the others.

    Attributes:
        int8: int8, shape ``(num_embeddings, embedding_dim)``.
        scale: float32, shape ``(num_embeddings,)``.
    """

    int8: Tensor
    scale: Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.add_rows("weight", "", num_embeddings, embedding_dim)

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return f"{self.num_embeddings}, {self.embedding_dim}"

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows of ids, float32, shape ``(..., embedding_dim)``.

        Args:
            input: int64 or int32 ids, shape ``(...)``.
        """
        return F.embedding(input, self.int8) * F.embedding(input, self.scale[:, None])


def check_input(name: str, x: Tensor, width: int) -> None:
    """Raise ``ValueError`` unless a tensor is of floats and has the width that a module expects.

    Raises:
        QuantizationError: while torch traces or transforms the module.
    """
    check_transforms()
    if x.dtype not in FLOATS:
        raise ValueError(f"{name}: expected float32, float16 or bfloat16, found {x.dtype}")
    if not x.dim() or x.shape[-1] != width:
        raise ValueError(f"{name}: expected {width} numbers in the last dimension, found shape {tuple(x.shape)}")
