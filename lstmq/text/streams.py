"""What a model reads and what it should predict: :class:`Stream`, and :func:`next_words`, which makes one of a text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""Returns the loss of an output, float32, for its targets, summed over steps and columns: a scalar."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Inputs and targets, step by step, in columns that a model reads side by side.

    Args:
        inputs: shape ``(steps, bsz, ...)``, any dtype that the model reads. For a text, int64 ids.
        targets: shape ``(steps, bsz, ...)``, any dtype that the loss reads.
        loss: takes the model's output for a window, float32, and the targets of the window, and returns a scalar: the
            loss summed over the window's steps and columns. The default is the cross-entropy in nats. It needs outputs
            whose last dimension is logits, and int64 targets, which are the classes.

    Raises:
        ValueError: if there are no steps or no columns, or the inputs have others than the targets.

    Example:
        >>> import torch
        >>> from lstmq import Stream
        >>> stream = Stream(inputs=torch.rand(100, 2, 8), targets=torch.zeros(100, 2, dtype=torch.int64))
        >>> len(stream), stream.tokens
        (100, 200)
        >>> [len(window) for window in stream.windows(bptt=40)]
        [40, 40, 20]
    """

    inputs: Tensor
    targets: Tensor
    loss: Loss | None = None

    def __post_init__(self) -> None:
        inputs, targets = tuple(self.inputs.shape), tuple(self.targets.shape)
        if len(inputs) < 2 or inputs[:2] != targets[:2] or not self.tokens:
            raise ValueError(f"expected inputs and targets of shape (steps, bsz, ...), found {inputs} and {targets}")

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.inputs)

    @property
    def tokens(self) -> int:
        """Number of inputs: steps times columns."""
        return self.inputs.shape[0] * self.inputs.shape[1]

    def slice(self, first: int, steps: int) -> "Stream":
        """Return ``steps`` steps from step ``first`` on, or fewer at the end of the stream.

        Raises:
            ValueError: if no step is left.
        """
        part = slice(first, first + steps)
        return Stream(inputs=self.inputs[part], targets=self.targets[part], loss=self.loss)

    def windows(self, bptt: int) -> Iterator["Stream"]:
        """Yield consecutive windows of ``bptt`` steps. The last one may be shorter.

        Raises:
            ValueError: if ``bptt < 1``.
        """
        if bptt < 1:
            raise ValueError(f"bptt must be at least 1 step, found {bptt}")
        return (self.slice(first, bptt) for first in range(0, len(self), bptt))

    def summed_loss(self, output: Tensor) -> Tensor:
        """Return the loss of the model's output for this stream, summed over the targets, as a float32 scalar."""
        if self.loss is not None:
            return self.loss(output.float(), self.targets)
        return summed_cross_entropy(output, self.targets)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets, in nats, as a float32 scalar.

    Args:
        logits: float, shape ``(..., classes)``.
        targets: int64 classes, shape ``(...)``.
    """
    return F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), reduction="sum")


def next_words(source: Tensor) -> Stream:
    """Return a stream whose targets are the next words of its inputs.

    Args:
        source: int64 ids from :func:`~lstmq.batchify`, shape ``(steps, bsz)``, at least 2 steps.

    Returns:
        A stream of ``steps - 1`` steps.

    Raises:
        ValueError: if ``source`` has another shape or dtype.

    Example:
        >>> import torch
        >>> from lstmq import batchify, next_words
        >>> stream = next_words(batchify(torch.arange(5), bsz=1))
        >>> stream.inputs.flatten(), stream.targets.flatten()
        (tensor([0, 1, 2, 3]), tensor([1, 2, 3, 4]))
    """
    if source.dim() != 2:
        raise ValueError(f"expected ids of shape (steps, bsz) from batchify, found shape {tuple(source.shape)}")
    if source.dtype != torch.int64:
        raise ValueError(f"expected int64 ids, found {source.dtype}")
    if len(source) < 2 or not source.shape[1]:
        raise ValueError(f"expected at least 2 steps and 1 column, found shape {tuple(source.shape)}")
    return Stream(inputs=source[:-1], targets=source[1:])
