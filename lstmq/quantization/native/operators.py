"""The operators ``lstmq::linear`` and ``lstmq::recurrent`` of ``torch.library``, for torch.compile and torch.export.

Eager modules call the kernels directly, which is faster. :func:`call_linear` and :func:`call_recurrent` choose.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmq.errors import QuantizationError
from lstmq.quantization.eager import check_eager, has_dispatch_mode, is_compiling, is_transforming, switch_compiler
from lstmq.quantization.native.computing import PackedCell, run_linear, run_recurrent
from lstmq.quantization.native.layout import RecurrentLayout
from lstmq.quantization.native.library import Kernel

_library: Any = torch.library
HAS_OPERATORS = hasattr(_library, "custom_op")  # torch 2.4 and later
# torch 2.4 does not derive these from the annotations below.
LINEAR = "(Tensor x, Tensor[] tensors) -> Tensor"
RECURRENT = (
    "(Tensor x, Tensor? batch_sizes, Tensor? h, Tensor? c, Tensor[] tensors, str kind, SymInt layers, "
    "SymInt directions, bool bias, bool projection) -> (Tensor, Tensor, Tensor)"
)


def call_linear(x: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Compute as :func:`~lstmq.quantization.native.computing.run_linear` does, in torch.compile too."""
    check_gradients(x)
    if records_calls():
        output: Tensor = torch.ops.lstmq.linear(x, tensors)
        return output
    before = switch_compiler(None)  # as `uncompiled` does, in less time
    try:
        return run_linear(x, tensors)
    finally:
        switch_compiler(before)


def call_recurrent(
    layout: RecurrentLayout,
    x: Tensor,
    batch_sizes: Tensor | None,
    h: Tensor | None,
    c: Tensor | None,
    tensors: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Compute as :func:`~lstmq.quantization.native.computing.run_recurrent` does, in torch.compile too."""
    check_gradients(x, h, c)
    if records_calls():
        output, h, c = torch.ops.lstmq.recurrent(x, batch_sizes, h, c, tensors, *layout)
        return output, h, None if layout.kind == "GRU" else c
    before = switch_compiler(None)
    try:
        return run_recurrent(layout, x, batch_sizes, h, c, tensors)
    finally:
        switch_compiler(before)


def call_step(cell: PackedCell, kernel: Kernel, x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return ``h`` and ``c`` after one step. Call it in eager mode only.

    Args:
        cell: the weights.
        kernel: what computes.
        x: float32, shape ``(columns, input_size)``, with at least one column.
        h: float32, shape ``(columns, hidden_size)``.
        c: likewise, of an LSTM.
    """
    before = switch_compiler(None)
    try:
        return cell.packed.run_step(kernel, x, h, c)
    finally:
        switch_compiler(before)


def check_gradients(*inputs: Tensor | None) -> None:
    """Raise :class:`~lstmq.QuantizationError` if an input needs gradients, because the kernels compute none."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        raise QuantizationError("int8-native computes no gradients, and an input needs them: use torch.no_grad()")


def check_transforms() -> None:
    """Raise :class:`~lstmq.QuantizationError` while torch traces or transforms a module, which no operator stands."""
    if not is_compiling() and is_transforming():  # first, because torch.compile may not understand the other calls
        raise QuantizationError("int8-native computes outside of torch: torch cannot trace, vmap or differentiate it")


def records_calls() -> bool:
    """Return whether torch records calls, so that each must be one of an operator.

    Raises:
        QuantizationError: if it does, and is too old to have operators in Python.
    """
    if not HAS_OPERATORS:
        check_eager("int8-native, with a torch before 2.4,")
        return False
    return is_compiling() or has_dispatch_mode()


if HAS_OPERATORS:

    @_library.custom_op("lstmq::linear", mutates_args=(), schema=LINEAR)  # type: ignore[untyped-decorator] # torch's
    def _linear(x: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        return run_linear(x, tensors)

    @_linear.register_fake  # type: ignore[untyped-decorator] # torch's
    def _fake_linear(x: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        return x.new_empty(x.shape[0], tensors[0].shape[0])

    @_library.custom_op("lstmq::recurrent", mutates_args=(), schema=RECURRENT)  # type: ignore[untyped-decorator] # torch's
    def _recurrent(
        x: Tensor,
        batch_sizes: Tensor | None,
        h: Tensor | None,
        c: Tensor | None,
        tensors: Sequence[Tensor],
        kind: str,
        layers: int,
        directions: int,
        bias: bool,
        projection: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        layout = RecurrentLayout(kind, layers, directions, bias, projection)
        output, h, c = run_recurrent(layout, x, batch_sizes, h, c, tensors)
        return output, h, x.new_empty(0) if c is None else c

    @_recurrent.register_fake  # type: ignore[untyped-decorator] # torch's
    def _fake_recurrent(
        x: Tensor,
        batch_sizes: Tensor | None,
        h: Tensor | None,
        c: Tensor | None,  # noqa: ARG001 # an operator and its fake kernel have the same arguments
        tensors: Sequence[Tensor],
        kind: str,
        layers: int,
        directions: int,
        bias: bool,  # noqa: ARG001
        projection: bool,  # noqa: ARG001
    ) -> tuple[Tensor, Tensor, Tensor]:
        height, width = tensors[2].shape
        if h is not None:
            columns = h.shape[1]
        else:
            columns = x.shape[1] if batch_sizes is None else _library.get_ctx().new_dynamic_size()
        output = x.new_empty(*x.shape[:-1], directions * width)
        cells = x.new_empty(layers * directions, columns, height // 4) if kind == "LSTM" else x.new_empty(0)
        return output, x.new_empty(layers * directions, columns, width), cells
