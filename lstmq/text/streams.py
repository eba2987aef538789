"""What a model reads and what is to come of it: a :class:`Stream`; of a text, :func:`next_words`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Inputs and targets, step by step, in columns that are read side by side.

    Args:
        inputs: shape ``(steps, bsz, ...)``, of what dtype the model reads.
        targets: shape ``(steps, bsz, ...)``.
        loss: is given what the model made of a window, float32, and the window's targets; returns a scalar, the loss
            summed over the window's steps and columns. Without one, the last dimension of what the model makes is
            logits, the targets are their classes, int64, and the loss is the cross-entropy in nats.

    Raises:
        ValueError: if there is no step or no column, or inputs and targets have different ones.
    """

    inputs: Tensor
    targets: Tensor
    loss: Loss | None = None

    def __post_init__(self) -> None:
        """See that every input has a target."""
        inputs, targets = tuple(self.inputs.shape), tuple(self.targets.shape)
        if len(inputs) < 2 or inputs[:2] != targets[:2] or not self.tokens:
            raise ValueError(f"expected inputs and targets of shape (steps, bsz, ...), found {inputs} and {targets}")

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.inputs)

    @property
    def tokens(self) -> int:
        """How many inputs there are: steps times columns."""
        return self.inputs.shape[0] * self.inputs.shape[1]

    def slice(self, first: int, steps: int) -> "Stream":
        """Return ``steps`` steps from ``first`` on, or as many as there are."""
        steps_of = slice(first, first + steps)
        return Stream(inputs=self.inputs[steps_of], targets=self.targets[steps_of], loss=self.loss)

    def windows(self, bptt: int) -> Iterator["Stream"]:
        """Yield windows of ``bptt`` steps, the last of what is left: together they are the stream.

        Raises:
            ValueError: if ``bptt < 1``.
        """
        if bptt < 1:
            raise ValueError(f"bptt must be at least 1 step, found {bptt}")
        return (self.slice(first, bptt) for first in range(0, len(self), bptt))

    def summed_loss(self, output: Tensor) -> Tensor:
        """Return the loss of what a model made of the inputs, summed over the targets: a scalar, float32."""
        if self.loss is not None:
            return self.loss(output.float(), self.targets)
        return summed_cross_entropy(output, self.targets)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy summed over all targets, in nats, as a float32 scalar.

    Args:
        logits: float, shape ``(..., classes)``.
        targets: int64 classes, shape ``(...)``.
    """
    return F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), reduction="sum")


def next_words(source: Tensor) -> Stream:
    """Return the stream whose targets are the next word of each column.

    Args:
        source: int64 ids from :func:`~lstmq.batchify`, shape ``(steps, bsz)``.

    Raises:
        ValueError: if it is not that, or has fewer than 2 steps: there is no target.
    """
    if source.dim() != 2:
        raise ValueError(f"expected a source of shape (steps, bsz) from batchify, found shape {tuple(source.shape)}")
    if source.dtype != torch.int64:
        raise ValueError(f"expected int64 ids, found {source.dtype}")
    if len(source) < 2 or not source.shape[1]:
        raise ValueError(f"a source of shape {tuple(source.shape)} has no target: at least 2 steps are needed")
    return Stream(inputs=source[:-1], targets=source[1:])
