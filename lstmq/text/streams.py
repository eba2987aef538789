"""What a model reads and what it should predict: :class:`Stream`, and :func:`next_words`, which makes one of a text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmq.text.trees import map_tensors, tensors_of

IGNORED = -100  # a target that torch's cross_entropy ignores by default

Loss = Callable[[Any, Any], Tensor | tuple[Tensor, int]]
"""Returns the loss of an output, float32, for its targets, summed over them: a scalar. Or a pair of it and a count."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Inputs and targets, step by step, in columns that a model reads side by side.

    Args:
        inputs: shape ``(steps, bsz, ...)``, any dtype that the model reads. For a text, int64 ids. Several tensors
            stand in a tuple, which are the positional arguments of the model, or in a dictionary, which are its keyword
            arguments. All have the steps as their first dimension.
        targets: shape ``(steps, bsz, ...)``, any dtype that the loss reads. With a loss of your own, several tensors
            may stand in a tuple or a dictionary.
        loss: takes the model's output for a window, float32, and the targets of the window, and returns a scalar: the
            loss summed over the window's steps and columns. If it counts other targets than one for each step and
            column, it returns a pair of that scalar and their number. The default is the cross-entropy in nats. It
            needs outputs whose last dimension is logits, and int64 targets, which are the classes. It ignores targets
            of -100, as torch does.
        call: calls the model for a window: ``call(model, inputs)`` returns its output, or
            ``call(model, inputs, state)`` a pair of output and state. The default is the model's forward.
        first_state: takes the number of columns and returns the state before the first window. The default is the
            model's ``init_hidden``, or ``None``.
        batch_first: whether the first two dimensions of all tensors are ``(bsz, steps)``, as in ``nn.LSTM``. The
            default is ``(steps, bsz)``. lstmq checks that the model's recurrent modules take it so; ``False`` skips
            that check.

    Raises:
        ValueError: if there are no steps or no columns, or the inputs have others than the targets.

    Example:
        >>> import torch
        >>> from lstmq import Stream
        >>> stream = Stream(inputs=torch.rand(100, 2, 8), targets=torch.zeros(100, 2, dtype=torch.int64))
        >>> len(stream), stream.columns, stream.tokens
        (100, 2, 200)
        >>> [len(window) for window in stream.windows(bptt=40)]
        [40, 40, 20]
    """

    inputs: Any
    targets: Any
    loss: Loss | None = None
    call: Callable[..., Any] | None = None
    first_state: Callable[..., Any] | None = None
    batch_first: bool | None = None

    def __post_init__(self) -> None:
        inputs, targets = ([tuple(x.shape) for x in tensors_of(tree)] for tree in (self.inputs, self.targets))
        if self.loss is None and not isinstance(self.targets, Tensor):
            raise ValueError(f"the cross-entropy needs a tensor of classes, found {len(targets)} targets: pass a loss")
        first, axis = (inputs or [()])[0], 1 if self.batch_first else 0
        steps = {shape[axis] if len(shape) > axis else 0 for shape in (*inputs, *targets)}
        plain = isinstance(self.inputs, Tensor) and isinstance(self.targets, Tensor)
        if (
            len(first) < 2
            or len(steps) > 1
            or not targets
            or not self.tokens
            or (plain and targets[0][:2] != first[:2])
        ):
            found, wanted = (", ".join(map(str, shapes)) or "no tensor" for shapes in (inputs, targets))
            shape = "(bsz, steps, ...)" if self.batch_first else "(steps, bsz, ...)"
            raise ValueError(f"expected inputs and targets of shape {shape}, found {found} and {wanted}")

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Number of steps and of columns."""
        first, second = next(tensors_of(self.inputs)).shape[:2]
        return (second, first) if self.batch_first else (first, second)

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.shape[0]

    @property
    def columns(self) -> int:
        """Number of columns, which is the batch size."""
        return self.shape[1]

    @property
    def tokens(self) -> int:
        """Number of inputs: steps times columns."""
        return self.shape[0] * self.shape[1]

    @cached_property
    def has_ignored(self) -> bool:
        """Whether the default loss ignores some of the targets."""
        return self.loss is None and bool((self.targets == IGNORED).any())

    @property
    def num_targets(self) -> int:
        """Number of targets that the default loss counts."""
        if self.loss is not None:
            return self.tokens
        return int((self.targets != IGNORED).sum()) if self.has_ignored else self.targets.numel()

    def slice(self, first: int, steps: int) -> "Stream":
        """Return ``steps`` steps from step ``first`` on, or fewer at the end of the stream.

        Raises:
            ValueError: if no step is left.
        """
        if first >= len(self) or steps < 1:
            raise ValueError(f"the stream has {len(self):,} steps: found no step in {steps:,} from step {first:,} on")
        last = min(first + steps, len(self))

        def cut(tensor: Tensor) -> Tensor:
            return tensor[:, first:last].contiguous() if self.batch_first else tensor[first:last]

        # Without the checks of a new stream, because models are timed while they read slices.
        result = object.__new__(Stream)
        fields = vars(result)
        fields.update(vars(self), inputs=map_tensors(cut, self.inputs), targets=map_tensors(cut, self.targets))
        fields["shape"] = (last - first, self.columns)
        if self.has_ignored:
            fields.pop("has_ignored", None)  # the part may have none
        else:
            fields["has_ignored"] = False
        return result

    def windows(self, bptt: int) -> Iterator["Stream"]:
        """Yield consecutive windows of ``bptt`` steps. The last one may be shorter.

        Raises:
            ValueError: if ``bptt < 1``.
        """
        if bptt < 1:
            raise ValueError(f"bptt must be at least 1 step, found {bptt}")
        return (self.slice(first, bptt) for first in range(0, len(self), bptt))

    def summed_loss(self, output: Any) -> Tensor:
        """Return the loss of the model's output for this stream, summed over the targets, as a float32 scalar."""
        return self.loss_and_count(output)[0]

    def loss_and_count(self, output: Any) -> tuple[Tensor, int]:
        """Return the summed loss of the model's output, and the number of targets that it counts."""
        if self.loss is None:
            return summed_cross_entropy(output, self.targets), self.num_targets
        loss = self.loss(map_tensors(_to_float32, output), self.targets)
        return (loss[0], int(loss[1])) if isinstance(loss, tuple) else (loss, self.tokens)


def _to_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets, in nats, as a float32 scalar.

    Args:
        logits: float, shape ``(..., classes)``.
        targets: int64 classes, shape ``(...)``. Those of -100 are ignored.
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
