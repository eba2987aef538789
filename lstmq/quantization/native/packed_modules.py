"""Packs linear and recurrent modules for the kernels, and calls the kernels.

As in ``packing.py``, kernels read and write only tensors that this module made, and that nobody else has. A call is
cheap: the C structures are made once, and a call passes numbers and addresses.
"""

from collections.abc import Sequence
from ctypes import addressof
from typing import NamedTuple

import torch
from torch import Tensor

from lstmq.quantization.native.copies import copy_direction, copy_rows, matrix_shape, own_floats
from lstmq.quantization.native.layout import GATES
from lstmq.quantization.native.library import NO_MEMORY, Kernel
from lstmq.quantization.native.packing import DirectionStruct, PackedDirection, RecurrentStruct, StepStruct, pack_matrix
from lstmq.quantization.native.weights import LinearWeights, RecurrentWeights, copy_tensor


class PackedLinear:
    """A copy of a linear layer's weights as the kernels read them. Any number of threads may use it at once.

    Args:
        weights: of the layer.

    Raises:
        ValueError: if the tensors do not fit one another, or are not int8 from -127 to 127 and float32.
    """

    def __init__(self, weights: LinearWeights) -> None:
        height, self._in_features = matrix_shape("weight", weights.rows)
        rows = copy_rows("weight", weights.rows, height, self._in_features)
        self._matrix = pack_matrix(rows, copy_tensor("bias", weights.bias, torch.float32, (height,)))
        self._struct, self._out_features = self._matrix.struct(), height
        self._address = addressof(self._struct)

    def run(self, kernel: Kernel, x: Tensor) -> Tensor:
        """Return ``x @ weights.T + bias``, float32, shape ``(rows, out_features)``.

        Args:
            kernel: what :func:`~lstmq.quantization.native.library.find_kernel` returned.
            x: float32, shape ``(rows, in_features)``, of which each row is quantized.

        Raises:
            ValueError: if the input has another shape or dtype.
        """
        kernels, index = kernel
        x, rows = own_floats("input", x), len(x)
        if x.shape != (rows, self._in_features):
            raise ValueError(f"input: expected shape (rows, {self._in_features}), found {tuple(x.shape)}")
        output = torch.empty(rows, self._out_features, dtype=torch.float32, device="cpu")
        error = kernels.lstmq_run_linear(
            *(self._address, index, torch.get_num_threads(), rows, self._in_features, self._out_features),
            *(x.data_ptr(), output.data_ptr()),
        )
        if error:
            raise MemoryError(f"int8-native: no memory for {rows:,} rows")
        return output


class PreparedStep(NamedTuple):
    """What the steps of a cell have in common: made once, because to make it takes as long as a small step."""

    kernel: Kernel
    threads: int
    shape: tuple[int, int]  # of the arguments, side by side
    like: Tensor  # in shape and dtype like the state after a step
    struct: StepStruct
    address: int


class PackedRecurrent:
    """A copy of the weights of a recurrent module, or of a cell, as the kernels read them. Threads may share it.

    Args:
        kind: ``LSTM`` or ``GRU``.
        layers: for each layer, the weights of one or two directions.

    Raises:
        ValueError: if the tensors do not fit one another, or are not int8 from -127 to 127 and float32.
    """

    def __init__(self, kind: str, layers: Sequence[Sequence[RecurrentWeights]]) -> None:
        self._directions, self._is_lstm = len(layers[0]), kind == "LSTM"
        input_size, units = matrix_shape("weight_ih", layers[0][0].input)[::-1]
        units //= GATES[kind]
        width = units if layers[0][0].projection is None else len(layers[0][0].projection.scale)
        self._packed, self._input_size, self._units, self._width = [], input_size, units, width
        for directions in layers:
            if len(directions) != self._directions or self._directions not in (1, 2):
                raise ValueError(f"expected {self._directions} directions in each layer, found {len(directions)}")
            for weights in directions:
                copied = copy_direction(kind, weights, input_size, units, width)
                self._packed.append(PackedDirection(kind, copied))
            input_size = self._directions * width
        structs = (DirectionStruct * len(self._packed))(*(direction.struct for direction in self._packed))
        self._struct = RecurrentStruct(len(layers), self._directions, structs)
        self._address = addressof(self._struct)
        self._step: PreparedStep | None = None  # the last one

    def run(
        self,
        kernel: Kernel,
        x: Tensor,
        batch_sizes: Tensor | None = None,
        h: Tensor | None = None,
        c: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Read sequences with all layers and directions.

        Args:
            kernel: what :func:`~lstmq.quantization.native.library.find_kernel` returned.
            x: float32, shape ``(steps, columns, input_size)``; or ``(rows, input_size)`` with batch sizes.
            batch_sizes: int64, as in a ``PackedSequence``.
            h: float32, shape ``(layers * directions, columns, width)``. The default is zero.
            c: float32, shape ``(layers * directions, columns, hidden_size)``, of an LSTM. The default is zero.

        Returns:
            The output, float32, in the shape of ``x`` but for the last dimension; and ``h`` and ``c`` after it. Of a
            GRU, ``c`` is ``None``.

        Raises:
            ValueError: if an argument has another shape or dtype.
        """
        kernels, index = kernel
        x = own_floats("input", x)
        sizes = None
        if batch_sizes is None:
            steps, columns = x.shape[:2] if x.dim() == 3 else (0, 0)
            rows = steps * columns
        else:
            sizes = copy_tensor("batch_sizes", batch_sizes, torch.int64, (len(batch_sizes),))
            steps, rows = len(sizes), len(x)
            columns = int(sizes[0]) if steps else 0
        if not rows or not steps or x.numel() != rows * self._input_size or x.dim() != 3 - (sizes is not None):
            expected = "(steps, columns" if sizes is None else "(rows"
            raise ValueError(f"input: expected shape {expected}, {self._input_size}), found {tuple(x.shape)}")
        h = self._own_state("h_0", h, columns, self._width)
        c = self._own_state("c_0", c, columns, self._units) if self._is_lstm else None
        output = torch.empty(*x.shape[:-1], self._directions * self._width, dtype=torch.float32, device="cpu")
        error = kernels.lstmq_run_recurrent(
            *(self._address, index, torch.get_num_threads(), steps, columns),
            *(None if sizes is None else sizes.data_ptr(), rows, x.data_ptr(), output.data_ptr(), h.data_ptr()),
            None if c is None else c.data_ptr(),
        )
        if error == NO_MEMORY:
            raise MemoryError(f"int8-native: no memory for {rows:,} rows")
        if error:
            raise ValueError(f"batch_sizes: expected numbers that do not increase and add up to {rows}")
        return output, h, c

    def run_step(self, kernel: Kernel, x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return ``h`` and ``c`` after one step of a cell. This is :meth:`run` with less to do beside the arithmetic.

        Args:
            kernel: what :func:`~lstmq.quantization.native.library.find_kernel` returned.
            x: float32, shape ``(columns, input_size)``, with at least one column.
            h: float32, shape ``(columns, hidden_size)``.
            c: likewise, of an LSTM.

        Raises:
            ValueError: if an argument has another shape or dtype.
        """
        try:  # A copy of all arguments in one operation. It is contiguous, and negates what torch negates lazily.
            rows = torch.cat((x, h) if c is None else (x, h, c), 1)
        except RuntimeError as reason:  # sparse ones, or of different devices
            raise ValueError(f"input and states: expected float32 on the CPU; {str(reason).splitlines()[0]}") from None
        step, threads = self._step, torch.get_num_threads()
        if step is None or rows.shape != step.shape or step.kernel is not kernel or step.threads != threads:
            step = self._step = self._prepare_step(kernel, threads, len(rows))
        if rows.shape != step.shape or rows.dtype is not torch.float32 or not rows.is_cpu or rows.is_sparse:
            raise ValueError(f"input and states: expected float32, shape {step.shape}, found {tuple(rows.shape)}")
        # Tensors of our own say what to make: no argument can change their shape meanwhile.
        h, c = torch.empty_like(step.like), torch.empty_like(step.like) if self._is_lstm else None
        error = kernel[0].lstmq_run_step(
            step.address, rows.data_ptr(), h.data_ptr(), None if c is None else c.data_ptr()
        )
        if error:
            raise MemoryError(f"int8-native: no memory for {len(rows):,} columns")
        return h, c

    def _prepare_step(self, kernel: Kernel, threads: int, columns: int) -> PreparedStep:
        if len(self._packed) != 1 or self._width != self._units:
            raise ValueError("expected the weights of a cell, found those of several layers or with a projection")
        if columns < 1:
            raise ValueError("input: expected at least one column, found none")
        width = self._input_size + (2 if self._is_lstm else 1) * self._units
        like = torch.empty(columns, self._units, dtype=torch.float32, device="cpu")
        struct = StepStruct(self._address, kernel[1], threads, columns)
        return PreparedStep(kernel, threads, (columns, width), like, struct, addressof(struct))

    def _own_state(self, name: str, state: Tensor | None, columns: int, width: int) -> Tensor:
        if state is None:
            return torch.zeros(len(self._packed), columns, width, dtype=torch.float32, device="cpu")
        state = own_floats(name, state)
        expected = (len(self._packed), columns, width)
        if state.dim() == 3 and state.shape[1] != columns:
            raise ValueError(f"{name}: expected {columns} columns, found {state.shape[1]}")
        if state.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, found {tuple(state.shape)}")
        return state
