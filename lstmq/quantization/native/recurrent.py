"""Drop-in recurrent modules with int8 weights: :class:`Int8LSTM` and :class:`Int8GRU`. ``cells.py`` has the cells."""

from typing import Any, cast

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lstmq.quantization.native.layout import GATES, RecurrentLayout
from lstmq.quantization.native.modules import Int8Module, check_input
from lstmq.quantization.native.operators import call_recurrent


class Int8RecurrentBase(Int8Module):
    """What recurrent modules and cells have in common: the weights, and the call of the kernels.

    Args:
        layout: of the weights.
        input_size: how many numbers a step reads.
        hidden_size: how many units a layer has.
    """

    def __init__(self, layout: RecurrentLayout, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self._layout, self._suffixes = layout, [""]
        self._names: list[tuple[str, bool]] = []  # of the weights in the order of the layout; and if it is a parameter
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, layout.bias

    def add_direction(self, suffix: str, input_size: int, width: int) -> None:
        """Add zero weights of one direction of one layer.

        Args:
            suffix: what follows in the names.
            input_size: how many numbers it reads.
            width: how many numbers it returns.
        """
        height = GATES[self._layout.kind] * self.hidden_size
        self.add_rows(f"weight_ih{suffix}", f"_ih{suffix}", height, input_size)
        self.add_rows(f"weight_hh{suffix}", f"_hh{suffix}", height, width)
        if self._layout.projection:
            self.add_rows(f"weight_hr{suffix}", f"_hr{suffix}", width, self.hidden_size)
        if self.bias:
            self.add_floats(f"gate_bias{suffix}", height)
        if self.bias and self._layout.kind == "GRU":
            self.add_floats(f"new_bias{suffix}", self.hidden_size)
        names = [f"{part}{suffix}" for part in self._layout.parts]
        self._names += [(name, name in self._parameters) for name in names]

    def set_biases(self, suffix: str, of_input: Tensor, of_state: Tensor) -> None:
        """Set the biases of one direction of one layer from torch's two, float32, shape ``(gates * hidden_size,)``."""
        both = of_input + of_state
        if self._layout.kind == "GRU":
            both[2 * self.hidden_size :] = of_input[2 * self.hidden_size :]
            self.set_floats(f"new_bias{suffix}", of_state[2 * self.hidden_size :])
        self.set_floats(f"gate_bias{suffix}", both)

    def tensors(self) -> list[Tensor]:
        """Return the weights in the order of the layout."""
        slots = self._buffers, self._parameters
        return cast("list[Tensor]", [slots[is_parameter][name] for name, is_parameter in self._names])

    def run(
        self, x: Tensor, batch_sizes: Tensor | None, h: Tensor | None, c: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute in float32. Arguments as for :func:`~lstmq.quantization.native.computing.run_recurrent`."""
        tensors = self.tensors()
        h, c = (None if state is None else state.float() for state in (h, c))
        return call_recurrent(self._layout, x.float(), batch_sizes, h, c, tensors)


class Int8RNNBase(Int8RecurrentBase):
    """What :class:`Int8LSTM` and :class:`Int8GRU` have in common. Arguments as for ``nn.LSTM`` and ``nn.GRU``."""

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
    ) -> None:
        layout = RecurrentLayout(kind, num_layers, 2 if bidirectional else 1, bias, proj_size > 0)
        super().__init__(layout, input_size, hidden_size)
        self.mode, self.num_layers, self.batch_first, self.dropout = kind, num_layers, batch_first, dropout
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._suffixes = layout.suffixes
        width = proj_size or hidden_size
        for i, suffix in enumerate(self._suffixes):
            self.add_direction(suffix, input_size if i < layout.directions else layout.directions * width, width)

    def flatten_parameters(self) -> None:
        """Do nothing. ``nn.LSTM`` needs it on some devices."""

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "bidirectional": False, "proj_size": 0}
        options = [f"{name}={getattr(self, name)}" for name in defaults if getattr(self, name) != defaults[name]]
        return ", ".join([str(self.input_size), str(self.hidden_size), *options])

    def run_sequences(
        self, input: Tensor | PackedSequence, h: Tensor | None, c: Tensor | None
    ) -> tuple[Any, Tensor, Tensor]:
        """Read what ``nn.LSTM`` reads, and return its output, in the dtype of the input, and the states."""
        packed = input if isinstance(input, PackedSequence) else None
        x = packed.data if packed is not None else cast("Tensor", input)
        check_input("input", x, self.input_size)
        is_batched = packed is not None or x.dim() == 3
        columns = None
        if packed is None:
            if x.dim() not in (2, 3):
                raise ValueError(f"input: expected 2 or 3 dimensions, found shape {tuple(x.shape)}")
            x = x if is_batched else x[:, None]
            x = x.transpose(0, 1) if self.batch_first and is_batched else x
            if not x.shape[0]:
                raise ValueError("input: expected at least one step, found none")
            columns = x.shape[1]
        elif packed.sorted_indices is not None:
            columns = len(packed.sorted_indices)
        order, back = (None, None) if packed is None else (packed.sorted_indices, packed.unsorted_indices)
        dtypes = [x.dtype if state is None else state.dtype for state in (h, c)]
        h = self._prepare_state("h_0", h, self.proj_size or self.hidden_size, columns, is_batched, order)
        c = self._prepare_state("c_0", c, self.hidden_size, columns, is_batched, order)
        if h is None and columns is not None:  # torch.compile must know the number of columns
            h = x.new_zeros(len(self._suffixes), columns, self.proj_size or self.hidden_size)
        output, h, c = self.run(x, None if packed is None else packed.batch_sizes, h, c)
        h = _finish_state(h.to(dtypes[0]), is_batched, back)
        c = h if c is None else _finish_state(c.to(dtypes[1]), is_batched, back)
        output = output.to(x.dtype)
        if packed is not None:
            return PackedSequence(output, packed.batch_sizes, order, back), h, c
        output = output if is_batched else output[:, 0]
        return output.transpose(0, 1) if self.batch_first and is_batched else output, h, c

    def _prepare_state(
        self, name: str, state: Tensor | None, width: int, columns: int | None, is_batched: bool, order: Tensor | None
    ) -> Tensor | None:
        """Return a state with a dimension of columns, in their order. ``columns`` is ``None`` if it is not known."""
        if state is None:
            return None
        check_input(name, state, width)
        state = state if is_batched or state.dim() != 2 else state[:, None]
        expected = (len(self._suffixes), columns if columns is not None or state.dim() != 3 else state.shape[1], width)
        if tuple(state.shape) != expected:
            raise ValueError(f"{name}: expected shape {expected}, found {tuple(state.shape)}")
        return state if order is None else state.index_select(1, order)


def _finish_state(state: Tensor, is_batched: bool, order: Tensor | None) -> Tensor:
    state = state if is_batched else state[:, 0]
    return state if order is None else state.index_select(1, order)


class Int8LSTM(Int8RNNBase):
    """Stands in for ``nn.LSTM``. Arguments as for ``nn.LSTM``.

    Attributes:
        int8_ih_l0: int8, shape ``(4 * hidden_size, input_size)``. ``int8_hh_l0`` and ``int8_hr_l0`` are the other
            weights. The suffixes are torch's: ``_l0``, ``_l0_reverse``, ``_l1`` and so on.
        scale_ih_l0: float32, shape ``(4 * hidden_size,)``. The others likewise.
        gate_bias_l0: float32, shape ``(4 * hidden_size,)``, the sum of torch's two biases.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Return what ``nn.LSTM`` returns. Inputs and states may be float32, float16 or bfloat16."""
        h, c = (None, None) if hx is None else hx
        output, h, c = self.run_sequences(input, h, c)
        return output, (h, c)


class Int8GRU(Int8RNNBase):
    """Stands in for ``nn.GRU``. Arguments as for ``nn.GRU``.

    Attributes:
        int8_ih_l0: int8, shape ``(3 * hidden_size, input_size)``. ``int8_hh_l0`` is the other weight.
        scale_ih_l0: float32, shape ``(3 * hidden_size,)``. The other likewise.
        gate_bias_l0: float32, shape ``(3 * hidden_size,)``: torch's two biases added, but of n only that of the input.
        new_bias_l0: float32, shape ``(hidden_size,)``: the bias of n that is multiplied by r.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """Return what ``nn.GRU`` returns. Inputs and states may be float32, float16 or bfloat16."""
        output, h, _ = self.run_sequences(input, hx, None)
        return output, h
