"""Reads a stream window by window with any module: :class:`StreamReader`."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from lstmq.model.base import LanguageModel
from lstmq.text import Stream

STATE_NAMES = ("hidden", "hx", "state")  # usual names of the state among the arguments of a forward


class ModuleAdapter(LanguageModel):
    """Wraps any module as a :class:`~lstmq.model.LanguageModel`, so that callers treat all models alike.

    The module's forward is ``(input, hidden) -> (output, hidden)`` or ``input -> output``. The adapter passes a state
    if the module has an ``init_hidden`` method, or if the second argument of its forward has no default or is called
    ``hidden``, ``hx`` or ``state``. The first state is what ``module.init_hidden(bsz)`` returns, or else ``None``,
    which torch's own modules take for zeros. If the module is in bfloat16, the adapter casts floating-point inputs and
    the first state to bfloat16.

    Args:
        module: float32, bfloat16 or quantized.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._has_state = _has_state(module)
        self._is_bfloat16 = {weight.dtype for weight in module.parameters()} == {torch.bfloat16}

    def init_hidden(self, bsz: int) -> Any:
        """Return the state before the first window."""
        init_hidden: Any = getattr(self.module, "init_hidden", lambda _: None)
        return self._cast(init_hidden(bsz))

    def forward(self, input: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        """Return the output for one window, shape ``(n, bsz, ...)``, and the state after it.

        Raises:
            ValueError: if the module does not return a tensor, or a pair of a tensor and a state.
        """
        output = self.module(self._cast(input), *([hidden] if self._has_state else []))
        if self._has_state and isinstance(output, tuple) and len(output) == 2:
            output, hidden = output
        if not isinstance(output, Tensor):
            expected = "(output, hidden)" if self._has_state else "a tensor"
            raise ValueError(f"expected {expected} from {type(self.module).__name__}, found {type(output).__name__}")
        return output, hidden

    def _cast(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._cast, value))
        is_float = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(torch.bfloat16) if self._is_bfloat16 and is_float else value


def _has_state(module: nn.Module) -> bool:
    if hasattr(module, "init_hidden"):
        return True
    arguments = [*inspect.signature(module.forward).parameters.values()]
    second = next((argument for argument in arguments[1:] if argument.kind is argument.POSITIONAL_OR_KEYWORD), None)
    return second is not None and (second.default is second.empty or second.name in STATE_NAMES)


class StreamReader:
    """Reads the windows of a stream in order with one model, and carries the hidden state between them.

    Args:
        model: a :class:`~lstmq.model.LanguageModel`, or any module that :class:`ModuleAdapter` takes.
        bsz: number of columns of the stream.
    """

    def __init__(self, model: nn.Module, bsz: int) -> None:
        self._model = model if isinstance(model, LanguageModel) else ModuleAdapter(model)
        self._hidden = self._model.init_hidden(bsz)

    def window_loss(self, window: Stream) -> Tensor:
        """Read a window and return its loss, summed over the targets, as a float32 scalar."""
        if window.loss is not None:
            return self.loss_and_output(window)[0]
        loss, self._hidden = self._model.window_loss(window.inputs, window.targets, self._hidden)
        return loss

    def loss_and_output(self, window: Stream) -> tuple[Tensor, Tensor]:
        """Read a window and return its loss, as :meth:`window_loss` does, and the model's output."""
        if window.loss is not None:
            output, self._hidden = self._model(window.inputs, self._hidden)
            return window.summed_loss(output), output
        loss, output, self._hidden = self._model.loss_and_output(window.inputs, window.targets, self._hidden)
        return loss, output
