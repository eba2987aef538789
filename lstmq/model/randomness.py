"""The same random numbers for every model: :class:`WindowSeeds`, and :func:`preserve_random_state` around it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random import mtrand
from torch import nn

from lstmq.model.base import LanguageModel

FIRST_NUMBERS = random.Random(0).random(), np.random.RandomState(0).random_sample()  # noqa: S311 - the legacy ones


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


class WindowSeeds:
    """Starts the random numbers for each window anew, so that every model reads it with the same ones.

    Seeding Python and NumPy takes time. So after the first window it is left out if they have drawn nothing; their
    numbers began alike for every model, and go on alike.
    """

    def __init__(self) -> None:
        self._only_torch = False

    def start(self, number: int) -> None:
        """Start the window with this number. Number 0 may start more than once."""
        if number == 1:
            self._only_torch = (random.random(), np.random.random_sample()) == FIRST_NUMBERS  # noqa: NPY002, S311
        torch.default_generator.manual_seed(number)
        if not self._only_torch:
            random.seed(number)
            np.random.seed(number)  # noqa: NPY002 - code of the user may use the global generator
