"""Training by truncated backpropagation through time: :class:`TrainConfig`, :class:`Trainer`.

The recipe is that of PyTorch's word language model example: plain SGD with clipped gradients, a learning rate that is
divided by 4 whenever the validation loss has not improved, and the best model kept.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lstmq.model import LSTMModel, evaluate, repackage_hidden
from lstmq.text import batchify, get_batch
from lstmq.training.config import TrainConfig
from lstmq.training.distributed import ProcessGroup

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
VALID_BATCH_SIZE = 10  # the number of columns that the example validates on
CHANGEABLE = {"epochs", "lr", "clip"}  # settings that a resumed run may change


class StepResult(NamedTuple):
    """What one or a few steps came to; all of them were finite."""

    epoch: int  # from 0
    step: int  # windows of this epoch that are done
    steps: int  # of them that this is about, the last ones
    loss: float  # their mean, in nats per token
    tokens: int  # read in them, by all processes


class EpochResult(NamedTuple):
    """What a whole epoch came to."""

    epoch: int  # from 0
    lr: float  # that it was trained with
    loss: float  # mean over the epoch, with dropout, in nats per token
    valid_loss: float  # after it
    improved: bool  # this is the best model so far


class TrainingError(ValueError):
    """A run that cannot go on."""


class Trainer:
    """A run: all that changes while it goes on, so that it can be written down and taken up again.

    On a CPU, a run that is taken up again ends bit by bit where it would have ended. (On a GPU, torch offers no such
    thing: its LSTM keeps a random state of its own there.)

    In a process group (``torch.distributed``), every process is given the same arguments and trains its own share of
    the columns; gradients are averaged. torch's global generator is seeded anew at every step, from the seed and
    the position, so that the dropout of a step does not depend on where a run was interrupted.

    Args:
        model: float32, on the device to train on; it is trained in place.
        train: int64, shape ``(tokens,)``.
        valid: int64, shape ``(tokens,)``.
        config: how.

    Raises:
        ValueError: if a stream is too short, or the columns cannot be shared out evenly.
    """

    def __init__(self, model: LSTMModel, train: Tensor, valid: Tensor, config: TrainConfig) -> None:
        self.model, self.config = model, config
        self.device = next(model.parameters()).device
        self.group = ProcessGroup(self.device)
        if config.batch_size % self.group.size:
            raise ValueError(f"{config.batch_size} columns cannot be shared evenly by {self.group.size} processes")
        self.source = self.group.shard(batchify(train, config.batch_size))
        self.valid = batchify(valid, min(VALID_BATCH_SIZE, len(valid) // 2 or 1)).to(self.device)
        if len(self.source) < 2 or len(self.valid) < 2:
            raise ValueError(
                f"too little text: {config.batch_size} columns of {len(train):,} tokens, {len(valid):,} to validate on"
            )
        self.steps = math.ceil((len(self.source) - 1) / config.bptt)  # an epoch
        self.network: nn.Module = DistributedDataParallel(model) if self.group.size > 1 else model
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters(), lr=config.lr)
        # torch.manual_seed would seed every device, and note down from where each time.
        gpu = self.device.type == "cuda"
        self._dropout = torch.cuda.default_generators[self.device.index or 0] if gpu else torch.default_generator
        self.epoch = self.step = 0
        self.hidden = model.init_hidden(self.source.shape[1])
        self.loss_sum = 0.0  # of this epoch, nats per token times steps of a column
        self.best_loss = math.inf
        self.best = self._weights()
        self._corpus = zlib.crc32(valid.numpy().tobytes(), zlib.crc32(train.numpy().tobytes()))

    def run(self) -> Iterator[StepResult | EpochResult]:
        """Train to the end, yielding after every step (a few on a GPU, which is not to wait for us) and every epoch.

        Whenever it yields, :meth:`state` is that of a good run.

        Raises:
            TrainingError: if the loss or the gradient is not finite.
        """
        together = 1 if self.device.type == "cpu" else 20
        while self.epoch < self.config.epochs:
            self.network.train()
            steps = self._train()
            while self.step < self.steps:
                yield self._look(torch.stack(list(islice(steps, together))).tolist())
            yield self._finish_epoch()

    def _train(self) -> Iterator[Tensor]:
        """Train on the rest of the epoch; yield a step's loss and gradient's norm before clipping, shape ``(2,)``.

        That one generator takes all steps keeps a step's logits until the next has its own: freed in between, their
        memory would go back to the system and be faulted in again, at 5 to 10 % of a small model's time.
        """
        for step in range(self.step, self.steps):
            self._dropout.manual_seed(zlib.crc32(repr((self.config.seed, self.epoch, step, self.group.rank)).encode()))
            data, targets = get_batch(self.source, step * self.config.bptt, self.config.bptt)
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                logits, hidden = self.network(data, self.hidden)
                loss = F.cross_entropy(logits.flatten(0, 1), targets)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.hidden = repackage_hidden(hidden)
            yield torch.stack([self.group.mean(loss.detach()), norm])

    def _look(self, seen: list[list[float]]) -> StepResult:
        """Count the steps of these losses and norms as done, if all were finite."""
        total, read = 0.0, 0
        for step, (loss, norm) in enumerate(seen, start=self.step):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._blown_up(step + 1, f"the loss is {loss} and its gradient's norm {norm}")
            n = min(self.config.bptt, len(self.source) - 1 - step * self.config.bptt)
            total, read = total + loss * n, read + n
        self.loss_sum += total
        self.step += len(seen)
        return StepResult(self.epoch, self.step, len(seen), total / read, read * self.config.batch_size)

    def _finish_epoch(self) -> EpochResult:
        """Validate; keep the model if it is the best, else lower the learning rate; go to the next epoch's start."""
        mine = torch.tensor(evaluate(self.model, self.valid, self.config.bptt), dtype=torch.float64, device=self.device)
        valid_loss = self.group.mean(mine).item()  # one figure, so that all come to one decision
        if not math.isfinite(valid_loss):
            raise self._blown_up(self.steps, f"the validation loss is {valid_loss}")
        improved, lr = valid_loss < self.best_loss, self._lr()
        if improved:
            self.best_loss, self.best = valid_loss, self._weights()
        else:
            self._set_lr(lr / 4)
        result = EpochResult(self.epoch, lr, self.loss_sum / (len(self.source) - 1), valid_loss, improved)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        self.hidden = self.model.init_hidden(self.source.shape[1])
        return result

    def best_model(self) -> LSTMModel:
        """Return a copy of the model that validated best, on the CPU."""
        model = LSTMModel(self.model.config)
        model.load_state_dict(self.best)
        return model

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`restore` needs, as tensors and plain numbers; every process must call it.

        The tensors are the run's own: they are to be written down, or copied, before it goes on.

        Raises:
            TrainingError: if a weight is not finite: there would be no going on from it.
        """
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise self._blown_up(self.step, "a weight is not finite")
        return {
            "model_config": asdict(self.model.config),
            "train_config": asdict(self.config),
            "corpus": self._corpus,
            "position": [self.epoch, self.step, self.loss_sum, self.best_loss],
            "hidden": [self.group.gather(part) for part in self.hidden],
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Any) -> None:
        """Go on where :meth:`state` was taken.

        Raises:
            TrainingError: if it is the state of another run: of another model, corpus or config. Epochs, lr and clip
                may differ, so that a run can go on for longer, or more carefully: a new lr is taken at once, while
                the old one stands for what has become of it so far.
        """
        here = {**asdict(self.model.config), **asdict(self.config), "corpus": self._corpus}
        try:
            there = {**state["model_config"], **state["train_config"], "corpus": state["corpus"]}
            for name in ("corpus", *(here.keys() - CHANGEABLE - {"corpus"})):
                if there[name] != here[name]:
                    raise TrainingError(f"it is of another run: its {name} is {there[name]}, this one's {here[name]}")
            if state["position"][0] > self.config.epochs:
                raise TrainingError(
                    f"{state['position'][0]} epochs are done, more than the {self.config.epochs} asked for"
                )
            self.epoch, self.step, self.loss_sum, self.best_loss = state["position"]
            h, c = (self.group.shard(part) for part in state["hidden"])
            self.hidden, self.best = (h, c), dict(state["best"])
            self.best_model()  # so that it is known to be one
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(dict(state["optimizer"]))
            if there["lr"] != self.config.lr:
                self._set_lr(self.config.lr)
        except TrainingError:
            raise
        except (AttributeError, KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
            raise TrainingError(f"it is not the state of a run: {str(error).partition(chr(10))[0]}") from None

    def _blown_up(self, step: int, what: str) -> TrainingError:
        where = f"epoch {self.epoch + 1}, step {step}"
        rates = f"the learning rate ({self._lr():g}) or the clipping norm ({self.config.clip:g})"
        return TrainingError(f"{where}: {what}: lower {rates}")

    def _weights(self) -> dict[str, Tensor]:
        return {key: value.detach().to("cpu", copy=True) for key, value in self.model.state_dict().items()}

    def _lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.dtype == "bfloat16")
