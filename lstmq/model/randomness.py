"""The same random numbers for every model: :func:`seed_window`, and :func:`preserve_random_state` around it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random import mtrand
from torch import nn

from lstmq.model.base import LanguageModel


def may_draw(model: nn.Module) -> bool:
    """Return whether a model may draw random numbers when it reads. The language models of this package do not."""
    return not (isinstance(model, LanguageModel) and type(model).__module__.startswith("lstmq."))


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restore the random numbers of torch, Python and NumPy to where they were before the block."""
    ours, pythons, numpys = torch.default_generator.get_state(), random.getstate(), mtrand.get_bit_generator()
    mtrand.set_bit_generator(np.random.MT19937(0))  # faster than copying a state
    try:
        yield
    finally:
        torch.default_generator.set_state(ours)
        random.setstate(pythons)
        mtrand.set_bit_generator(numpys)


def seed_window(number: int) -> None:
    """Start the random numbers for the window with this number, so that every model reads it with the same ones."""
    torch.default_generator.manual_seed(number)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - code of the user may use the global generator
