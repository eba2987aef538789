"""How the forward of a module takes and returns its state: :class:`StateArguments`."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

# Usual names of a state among the arguments of a forward.
STATE_NAME = re.compile(
    r"([hc]x?s?_?\d*|hc|.*hidden.*|.*states?\d*|.*carry.*|.*memory.*|.*cell.*)(_?prev|_?init|_?in)?$"
)
BATCH_NAME = re.compile(r"n|b|bs|bsz|b_?size|.*batch.*")


@dataclass(frozen=True, kw_only=True)
class StateArguments:
    """The arguments of a forward that are its state.

    Attributes:
        names: their names. Without any, each window stands alone.
        guessed: whether only their position says that they are states.
    """

    names: tuple[str, ...] = ()
    guessed: bool = False

    @classmethod
    def of(cls, module: nn.Module, inputs: Any, has_first_state: bool) -> "StateArguments":
        """Read the signature of a module's forward.

        Arguments with the name of a state are states, unless they default to something else than ``None``. If there are
        none, those without a default are; else, if there is a first state, the first argument after the inputs.

        Args:
            module: any module.
            inputs: of a stream.
            has_first_state: whether the module or the stream says what its first state is.
        """
        rest = _arguments_after(module, inputs)
        required = [argument.name for argument in rest if argument.default is argument.empty]
        optional = [argument.name for argument in rest if argument.default is None]
        named = [name for name in (*required, *optional) if STATE_NAME.fullmatch(name.lower())]
        names = named or required or (optional[:1] if has_first_state else [])
        return cls(names=tuple(names), guessed=bool(names) and not named)

    def pass_on(self, state: Any) -> dict[str, Any]:
        """Return the state as keyword arguments.

        Raises:
            ValueError: if there are several states, and the value is not as many.
        """
        if len(self.names) < 2:
            return dict.fromkeys(self.names, state)
        if state is None:
            return dict.fromkeys(self.names)
        if not isinstance(state, (tuple, list)) or len(state) != len(self.names):
            raise ValueError(
                f"expected {len(self.names)} states ({', '.join(self.names)}), found {describe_value(state)}"
            )
        return dict(zip(self.names, state, strict=True))

    def split(self, result: Any, state: Any, module: nn.Module) -> tuple[Any, Any]:
        """Return the output and the next state from what a forward returned.

        Raises:
            ValueError: if the result does not contain as many states.
        """
        count = len(self.names)
        if not count:
            return result, state
        if isinstance(result, (tuple, list)):
            if len(result) == 2 and (count == 1 or _has_length(result[1], count)):
                return result[0], result[1]
            if len(result) == 1 + count:
                return result[0], tuple(result[1:])
        elif isinstance(result, Tensor):
            return result, state
        names = ", ".join(self.names)
        raise ValueError(
            f"expected (output, {names}) from {type(module).__name__}, found {describe_value(result)}: to choose, pass "
            f"Subject(..., call=function), where function(model, input, state) returns (output, state)"
        )


def first_state(function: Callable[..., Any] | None, columns: int) -> Any:
    """Return the state before the first window, from an ``init_hidden`` or ``first_state`` that takes the batch size.

    It may also take no argument. Without a function, the state is ``None``, which torch's own modules take for zeros.

    Raises:
        ValueError: if the function takes more arguments.
    """
    if function is None:
        return None
    arguments = [*inspect.signature(function).parameters.values()]
    needed = [argument for argument in arguments if argument.default is argument.empty]
    needed = [argument for argument in needed if argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)]
    if len(needed) > 1:
        names = ", ".join(argument.name for argument in needed)
        raise ValueError(
            f"init_hidden takes ({names}): pass Stream(..., first_state=function) that takes the batch size"
        )
    if needed or (arguments and BATCH_NAME.fullmatch(arguments[0].name.lower())):
        argument = (needed or arguments)[0]
        return function(**{argument.name: columns}) if argument.kind is argument.KEYWORD_ONLY else function(columns)
    return function()


def _arguments_after(module: nn.Module, inputs: Any) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except ValueError:  # compiled code has none
        return []
    arguments = [
        argument for argument in parameters if argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]
    if isinstance(inputs, Mapping):
        return [argument for argument in arguments if argument.name not in inputs]
    return arguments[len(inputs) if isinstance(inputs, (tuple, list)) else 1 :]


def _has_length(value: Any, count: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == count


def describe_value(value: Any) -> str:
    """Return the type of a value in words, and what it holds."""
    kind = type(value).__name__
    if isinstance(value, Mapping):
        return f"{kind} with {', '.join(map(str, value))}"
    return f"{kind} of {len(value)}" if isinstance(value, (tuple, list)) else kind
