"""Drop-in recurrent cells with int8 weights: :class:`Int8LSTMCell` and :class:`Int8GRUCell`."""

from typing import cast

import torch
from torch import Tensor

from lstmq.quantization.native.layout import RecurrentLayout
from lstmq.quantization.native.modules import FLOATS, check_input
from lstmq.quantization.native.operators import call_step
from lstmq.quantization.native.recurrent import Int8RecurrentBase


class Int8CellBase(Int8RecurrentBase):
    """What the cells have in common. Arguments as for ``nn.LSTMCell``, after the kind."""

    def __init__(self, kind: str, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(RecurrentLayout(kind, bias=bias), input_size, hidden_size)
        self.add_direction("", input_size, hidden_size)

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"

    def step(self, input: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return ``h`` and ``c`` after one step, in the dtypes of the states before or else of the input."""
        check_input("input", input, self.input_size)
        if input.dim() not in (1, 2):
            raise ValueError(f"input: expected 1 or 2 dimensions, found shape {tuple(input.shape)}")
        shape = (*input.shape[:-1], self.hidden_size)
        for state in (h, c):
            if state is not None and (state.shape != shape or state.dtype not in FLOATS):
                check_input("hx", state, self.hidden_size)
                raise ValueError(f"hx: expected shape {shape}, found {tuple(state.shape)}")
        if h is not None and len(shape) == 2 and shape[0]:
            is_float32 = input.dtype is h.dtype is torch.float32 and (c is None or c.dtype is torch.float32)
            states = call_step(self._layout, input, h, c, self.tensors()) if is_float32 else None
            if states is not None:
                return states
        columns = (1, -1, self.hidden_size)
        output, _, after = self.run(
            input.reshape(1, -1, self.input_size),
            None,
            None if h is None else h.reshape(columns),
            None if c is None else c.reshape(columns),
        )
        output = output.view(shape).to(input.dtype if h is None else h.dtype)
        return output, None if after is None else after.view(shape).to(input.dtype if c is None else c.dtype)


class Int8LSTMCell(Int8CellBase):
    """Stands in for ``nn.LSTMCell``. Its tensors are those of a layer of :class:`Int8LSTM`, without a suffix."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__("LSTM", input_size, hidden_size, bias)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return what ``nn.LSTMCell`` returns. Inputs and states may be float32, float16 or bfloat16."""
        h, c = (None, None) if hx is None else hx
        h, c = self.step(input, h, c)
        return h, cast("Tensor", c)


class Int8GRUCell(Int8CellBase):
    """Stands in for ``nn.GRUCell``. Its tensors are those of a layer of :class:`Int8GRU`, without a suffix."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__("GRU", input_size, hidden_size, bias)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return what ``nn.GRUCell`` returns. Inputs and states may be float32, float16 or bfloat16."""
        return self.step(input, hx, None)[0]
