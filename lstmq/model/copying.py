"""Copies of modules: :func:`copy_module`."""

import copy
from typing import TypeVar

from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def copy_module(module: ModuleT) -> ModuleT:
    """Return a deep copy of a module, also of one that ``copy.deepcopy`` cannot copy.

    A class may say with ``__getstate__`` or ``__reduce__`` how its instances are saved, which need not fit an instance
    whose modules were replaced. So modules of such a class are copied attribute by attribute. And tensors that a
    forward computed and kept, such as the weight of torch's ``weight_norm``, are copied without their history.

    Args:
        module: any module.
    """
    memo: dict[int, object] = {}
    parts = [*module.modules()]
    for part in parts:
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    for part in reversed(parts):  # children first, so that copies of their parents find them
        if id(part) not in memo and _saves_itself(type(part)):
            duplicate = memo[id(part)] = type(part).__new__(type(part))
            duplicate.__dict__.update(copy.deepcopy(vars(part), memo))
    return copy.deepcopy(module, memo)


def _saves_itself(kind: type[nn.Module]) -> bool:
    """Return whether a class of the user defines how its instances are saved. torch's and our classes do it right."""
    names = ("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")
    owners = [
        owner for owner in kind.__mro__ if owner not in (object, nn.Module) and not hasattr(owner, "__deepcopy__")
    ]
    return any(
        name in vars(owner)
        for owner in owners
        for name in names
        if owner.__module__.split(".")[0] not in ("torch", "lstmq")
    )
