"""Reads a stream window by window with any module: :class:`StreamReader`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lstmq.errors import one_line
from lstmq.model.base import LanguageModel
from lstmq.model.randomness import WindowSeeds, may_draw
from lstmq.model.states import StateArguments, describe_value, first_state
from lstmq.model.time_axis import TimeAxisError, checking_time_axis, reads_other_axis
from lstmq.text import Stream, map_tensors

Call = Callable[[Any, Any], tuple[Any, Any]]
"""Takes the inputs of a window and the state before it, and returns the output and the state after it."""


class StreamReader:
    """Reads the windows of a stream in order with one model, and carries the hidden state between them.

    Every model reads a window with the same random numbers; the caller restores the random state.

    The module's forward is ``(input, state) -> (output, state)`` or ``input -> output``, or the stream says how to call
    it. :class:`~lstmq.model.states.StateArguments` says how the signature decides. If the module is in bfloat16,
    floating-point inputs and the first state are cast to bfloat16.

    Args:
        model: float32, bfloat16 or quantized.
        stream: the whole stream, or any window of it.

    Raises:
        ValueError: if the first state cannot be made, or a language model is to read another kind of stream.
    """

    def __init__(self, model: nn.Module, stream: Stream) -> None:
        self._number = 0
        self._model = model
        self._seeds = WindowSeeds() if may_draw(model) else None
        if self._seeds:
            self._seeds.start(0)  # a first state may be random, too
        self._language_model = model if isinstance(model, LanguageModel) and stream.call is None else None
        if self._language_model:
            if stream.batch_first or not isinstance(stream.inputs, Tensor):
                raise ValueError(f"{type(model).__name__} reads one tensor of ids, shape (steps, bsz)")
            self._state: Any = self._language_model.init_hidden(stream.columns)
            return
        self._check_axis = reads_other_axis(model, stream)
        self._is_bfloat16 = torch.bfloat16 in {weight.dtype for weight in model.parameters()}
        self._call, has_state = _user_call(model, stream) if stream.call else _forward_call(model, stream)
        self._state = self._cast(_first_state(model, stream)) if has_state else None

    def window_loss(self, window: Stream) -> tuple[Tensor, int]:
        """Read a window. Return its loss, summed over the targets, as a float32 scalar; and the number of targets."""
        if self._language_model and window.loss is None and not window.has_ignored:
            self._start_window()
            inputs, targets = window.inputs, window.targets
            loss, self._state = self._language_model.window_loss(inputs, targets, self._state)
            return loss, window.num_targets
        return self.loss_and_output(window)[:2]

    def loss_and_output(self, window: Stream) -> tuple[Tensor, int, Any]:
        """Read a window. Return its loss and the number of targets, as :meth:`window_loss` does, and the output."""
        self._start_window()
        if self._language_model and window.loss is None and not window.has_ignored:
            model, inputs, targets = self._language_model, window.inputs, window.targets
            loss, output, self._state = model.loss_and_output(inputs, targets, self._state)
            return loss, window.num_targets, output
        output = self._read(window)
        return *window.loss_and_count(output), output

    def _start_window(self) -> None:
        if self._seeds:
            self._seeds.start(self._number)
        self._number += 1

    def _read(self, window: Stream) -> Any:
        if self._language_model:
            output, self._state = self._language_model(window.inputs, self._state)
            return output
        if self._check_axis and self._number == 1:
            self._check_time_axis(window)
        output, self._state = self._call(self._cast(window.inputs), self._state)
        if window.loss is None and not isinstance(output, Tensor):
            raise ValueError(_wrong_output(type(self._model).__name__, output))
        return output

    def _check_time_axis(self, window: Stream) -> None:
        """Read the start of the window once more, with another number of steps than columns, to see which is which."""
        part = window.slice(0, 2 if window.columns == 1 else 1)
        try:
            with checking_time_axis(self._model, part):
                self._call(self._cast(part.inputs), self._state)
        except TimeAxisError:
            raise
        except Exception:  # noqa: S110 - the model may not read so few steps
            pass
        if self._seeds:
            self._seeds.start(0)

    def _cast(self, value: Any) -> Any:
        if not self._is_bfloat16:
            return value
        return map_tensors(lambda x: x.to(torch.bfloat16) if x.is_floating_point() else x, value)


def _first_state(model: nn.Module, stream: Stream) -> Any:
    function = stream.first_state or getattr(model, "init_hidden", None)
    try:
        return first_state(function, stream.columns)
    except Exception as error:  # code of the user
        hint = (
            ""
            if stream.first_state
            else "; to take the first state from elsewhere, pass Stream(..., first_state=function)"
        )
        raise ValueError(f"the first state of {type(model).__name__}: {one_line(error)}{hint}") from error


def _user_call(model: nn.Module, stream: Stream) -> tuple[Call, bool]:
    """Return how the stream calls the model, and whether that takes a state."""
    call: Any = stream.call
    names = [name for name, x in inspect.signature(call).parameters.items() if x.default is x.empty]
    if len(names) not in (2, 3):
        raise ValueError(f"expected call(model, inputs) or call(model, inputs, state), found call({', '.join(names)})")
    if len(names) == 2:
        return lambda inputs, state: (call(model, inputs), state), False

    def call_with_state(inputs: Any, state: Any) -> tuple[Any, Any]:
        result = call(model, inputs, state)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ValueError(
                f"expected (output, state) from call(model, inputs, state), found {describe_value(result)}"
            )
        return result[0], result[1]

    return call_with_state, True


def _forward_call(model: nn.Module, stream: Stream) -> tuple[Call, bool]:
    """Return how to call the model's forward, and whether that takes a state."""
    has_first = stream.first_state is not None or hasattr(model, "init_hidden")
    arguments = StateArguments.of(model, stream.inputs, has_first)

    def call(inputs: Any, state: Any) -> tuple[Any, Any]:
        positional = inputs if isinstance(inputs, (tuple, list)) else () if isinstance(inputs, Mapping) else (inputs,)
        keywords = inputs if isinstance(inputs, Mapping) else {}
        try:
            result = model(*positional, **keywords, **arguments.pass_on(state))
        except Exception as error:  # code of the user
            if not arguments.guessed or state is not None:
                raise
            names = ", ".join(arguments.names)
            raise ValueError(
                f"{one_line(error)}. lstmq passed None for {names}, as a state before the first window. If it is an "
                "input, make the stream's inputs a tuple, or pass Subject(..., call=function)"
            ) from error
        return arguments.split(result, state, model)

    return call, bool(arguments.names)


def _wrong_output(kind: str, output: Any) -> str:
    part = "0"
    if isinstance(output, Mapping):
        part = next((repr(key) for key in output if "logit" in str(key)), "name")
    return (
        f"expected a tensor of logits from {kind}, found {describe_value(output)}: pass Subject(..., call=function), "
        f"where function(model, input) returns model(input)[{part}]. With a state, function(model, input, state) "
        "returns (output, state)"
    )
