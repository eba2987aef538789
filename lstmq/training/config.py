"""How to train: :class:`TrainConfig`. This module does not import torch."""

import math
from dataclasses import dataclass

OPTIMIZERS = ("sgd", "adamw")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. The defaults are those of PyTorch's word language model example, except for its 40 epochs.

    Args:
        epochs: number of epochs.
        batch_size: number of columns, over all processes together.
        bptt: longest window, in steps.
        lr: learning rate. The default suits SGD with clipping; AdamW needs about 0.001.
        clip: largest norm of the gradient.
        optimizer: ``sgd`` or ``adamw``.
        dtype: ``float32``; or ``bfloat16``, which computes products in bfloat16 under autocast, and keeps weights and
            loss in float32.
        seed: seed of the dropout.

    Raises:
        ValueError: if a number is out of range, or a name is unknown.

    Example:
        >>> from lstmq import TrainConfig
        >>> config = TrainConfig(epochs=2, lr=5.0)
        >>> config.batch_size, config.bptt
        (20, 35)
    """

    epochs: int = 5
    batch_size: int = 20
    bptt: int = 35
    lr: float = 20.0
    clip: float = 0.25
    optimizer: str = "sgd"
    dtype: str = "float32"
    seed: int = 1111

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "bptt", "lr", "clip"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0, found {value}")
        for name, known in (("optimizer", OPTIMIZERS), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, found {getattr(self, name)!r}")
