"""Tensors in tuples, lists and dictionaries: :func:`tensors_of`, :func:`map_tensors`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in any tuples, lists and dictionaries, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors_of(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors_of(value)


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Return the same tuples, lists and dictionaries with the function applied to each tensor.

    Example:
        >>> import torch
        >>> from lstmq.text import map_tensors
        >>> map_tensors(len, {"ids": torch.zeros(3), "more": (torch.zeros(2), None)})
        {'ids': 3, 'more': (2, None)}
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):  # a named tuple
        return type(tree)(*(map_tensors(function, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(function, value) for value in tree)
    return tree
