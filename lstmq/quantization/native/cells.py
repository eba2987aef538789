"""Drop-in recurrent cells with int8 weights: :class:`Int8LSTMCell` and :class:`Int8GRUCell`."""

from typing import Any

import torch
from torch import Tensor

from lstmq.quantization.eager import is_eager
from lstmq.quantization.native.computing import PackedCell
from lstmq.quantization.native.layout import RecurrentLayout
from lstmq.quantization.native.library import selected_kernel
from lstmq.quantization.native.modules import check_input
from lstmq.quantization.native.operators import call_step, check_gradients
from lstmq.quantization.native.recurrent import Int8RecurrentBase


class Int8CellBase(Int8RecurrentBase):
    """What the cells have in common. Arguments as for ``nn.LSTMCell``, after the kind."""

    def __init__(self, kind: str, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(RecurrentLayout(kind, bias=bias), input_size, hidden_size)
        self.add_direction("", input_size, hidden_size)
        self._packed: PackedCell | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy starts with. It packs its own tensors."""
        return super().__getstate__() | {"_packed": None}

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"

    def step(self, input: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Any]:
        """Return ``h`` and ``c`` after one step, in the dtypes of the states before or else of the input."""
        if h is not None and is_eager() and self._fits_step(input, h, c) and (kernel := selected_kernel()):
            if torch.is_grad_enabled():
                check_gradients(input, h, c)
            known = self._packed
            if known is None or not known.is_copy_of(self._buffers, self._parameters):
                known = self._packed = PackedCell(self._layout, self._buffers, self._parameters)
            return call_step(known, kernel, input, h, c)
        check_input("input", input, self.input_size)
        if input.dim() not in (1, 2):
            raise ValueError(f"input: expected 1 or 2 dimensions, found shape {tuple(input.shape)}")
        shape = (*input.shape[:-1], self.hidden_size)
        for state in (h, c):
            if state is not None:
                check_input("hx", state, self.hidden_size)
                if state.shape != shape:
                    raise ValueError(f"hx: expected shape {shape}, found {tuple(state.shape)}")
        columns = (1, -1, self.hidden_size)
        output, _, after = self.run(
            input.reshape(1, -1, self.input_size),
            None,
            None if h is None else h.reshape(columns),
            None if c is None else c.reshape(columns),
        )
        output = output.view(shape).to(input.dtype if h is None else h.dtype)
        return output, None if after is None else after.view(shape).to(input.dtype if c is None else c.dtype)

    def _fits_step(self, x: Tensor, h: Tensor, c: Tensor | None) -> bool:
        """Return whether these are what most calls bring: plain tensors of float32 with one column or more."""
        shape, float32 = h.shape, torch.float32
        return (
            type(x) is type(h) is Tensor
            and x.dtype is h.dtype is float32
            and len(shape) == 2
            and shape[0] > 0
            and shape[1] == self.hidden_size
            and x.shape == (shape[0], self.input_size)
            and (c is None or (type(c) is Tensor and c.dtype is float32 and c.shape == shape))
        )


class Int8LSTMCell(Int8CellBase):
    """Stands in for ``nn.LSTMCell``. Its tensors are those of a layer of :class:`Int8LSTM`, without a suffix."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__("LSTM", input_size, hidden_size, bias)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return what ``nn.LSTMCell`` returns. Inputs and states may be float32, float16 or bfloat16."""
        h, c = (None, None) if hx is None else hx
        return self.step(input, h, c)


class Int8GRUCell(Int8CellBase):
    """Stands in for ``nn.GRUCell``. Its tensors are those of a layer of :class:`Int8GRU`, without a suffix."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__("GRU", input_size, hidden_size, bias)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return what ``nn.GRUCell`` returns. Inputs and states may be float32, float16 or bfloat16."""
        return self.step(input, hx, None)[0]
