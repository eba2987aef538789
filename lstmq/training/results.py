"""What a training run yields, and the error that stops it."""

from typing import NamedTuple


class StepResult(NamedTuple):
    """The result of a step on a CPU, or of a few steps on a GPU.

    Attributes:
        epoch: number of the epoch, from 0.
        step: number of finished steps of this epoch.
        steps: number of steps that the loss is the mean of.
        loss: mean loss, in nats per token.
        tokens: number of tokens that all processes read in these steps.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    tokens: int


class EpochResult(NamedTuple):
    """The result of an epoch.

    Attributes:
        epoch: number of the epoch, from 0.
        lr: learning rate of the epoch.
        loss: mean loss during the epoch, with dropout, in nats per token.
        valid_loss: loss on the validation text after the epoch, in nats per token.
        improved: whether this is the best model so far.
    """

    epoch: int
    lr: float
    loss: float
    valid_loss: float
    improved: bool


class TrainingError(ValueError):
    """A run cannot go on, or cannot be resumed."""
