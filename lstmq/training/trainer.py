"""Trains a model by truncated backpropagation through time: :class:`Trainer`.

The recipe is that of PyTorch's word language model example: plain SGD with clipped gradients, a learning rate that is
divided by 4 whenever the validation loss does not improve, and the best model kept.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lstmq.errors import one_line
from lstmq.model import LSTMModel, evaluate, repackage_hidden
from lstmq.text import batchify, get_batch
from lstmq.training.config import TrainConfig
from lstmq.training.distributed import ProcessGroup
from lstmq.training.results import EpochResult, StepResult, TrainingError

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
VALID_BATCH_SIZE = 10  # columns; as in the example
GPU_STEPS = 20  # steps before the loss is read from a GPU, because reading it waits for the GPU
CHANGEABLE = {"epochs", "lr", "clip"}  # settings that a resumed run may change


class Trainer:
    """A training run. It can be saved after every step, and resumed.

    On a CPU, a resumed run ends with the same bits as an uninterrupted one. (On a GPU it does not, because torch's LSTM
    has its own random state there.)

    In a process group of ``torch.distributed``, all processes get the same arguments. Each trains on its own columns,
    and they average their gradients. Each step seeds torch's global generator from the seed and the position, so that
    dropout does not depend on where a run was interrupted.

    Args:
        model: float32, on the device to train on. It is trained in place.
        train: int64 ids, shape ``(tokens,)``.
        valid: int64 ids, shape ``(tokens,)``.
        config: how to train.

    Attributes:
        steps: number of steps of an epoch.
        epoch: number of finished epochs.
        step: number of finished steps of the next epoch.
        best_loss: smallest validation loss so far, in nats per token.
        group: the process group.

    Raises:
        ValueError: if a text is too short, or the batch size is not a multiple of the number of processes.

    Example:
        >>> import torch
        >>> from lstmq import LSTMModel, ModelConfig, TrainConfig, Trainer
        >>> text = torch.arange(5).repeat(40)  # 0 1 2 3 4 0 1 ...
        >>> shape = ModelConfig(ntoken=5, ninp=8, nhid=8, nlayers=1, dropout=0.0)
        >>> model = LSTMModel(shape, torch.Generator().manual_seed(0))
        >>> trainer = Trainer(model, text, text, TrainConfig(epochs=1, batch_size=4, bptt=10, lr=5.0))
        >>> *steps, epoch = trainer.run()
        >>> [result.step for result in steps]
        [1, 2, 3, 4, 5]
        >>> epoch.valid_loss < steps[0].loss
        True
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
        self.steps = math.ceil((len(self.source) - 1) / config.bptt)
        self.network: nn.Module = DistributedDataParallel(model) if self.group.size > 1 else model
        self.optimizer = OPTIMIZERS[config.optimizer](model.parameters(), lr=config.lr)
        # torch.manual_seed would seed every device, which takes longer.
        is_gpu = self.device.type == "cuda"
        self._generator = torch.cuda.default_generators[self.device.index or 0] if is_gpu else torch.default_generator
        self.epoch = self.step = 0
        self.hidden = model.init_hidden(self.source.shape[1])
        self.loss_sum = 0.0  # of this epoch: the loss of each step times its length
        self.best_loss = math.inf
        self.best = self._weights()
        self._corpus = zlib.crc32(valid.numpy().tobytes(), zlib.crc32(train.numpy().tobytes()))

    def run(self) -> Iterator[StepResult | EpochResult]:
        """Train to the end, and yield a result after every step (on a GPU, after a few) and after every epoch.

        You can save the run with :meth:`state` whenever it yields.

        Raises:
            TrainingError: if the loss or the gradient is not finite.
        """
        together = 1 if self.device.type == "cpu" else GPU_STEPS
        while self.epoch < self.config.epochs:
            self.network.train()
            steps = self._train()
            while self.step < self.steps:
                yield self._finish_steps(torch.stack(list(islice(steps, together))).tolist())
            yield self._finish_epoch()

    def _train(self) -> Iterator[Tensor]:
        """Train on the rest of the epoch, and yield the loss and the gradient's norm of each step, shape ``(2,)``.

        As a generator, it keeps the logits of a step until the next step has its own. Otherwise their memory would go
        back to the system and be mapped again, which takes 5 to 10 % of the time of a small model.
        """
        for step in range(self.step, self.steps):
            position = (self.config.seed, self.epoch, step, self.group.rank)
            self._generator.manual_seed(zlib.crc32(repr(position).encode()))
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

    def _finish_steps(self, results: list[list[float]]) -> StepResult:
        """Count steps as finished, if their losses and norms are finite."""
        loss_sum, length = 0.0, 0
        for step, (loss, norm) in enumerate(results, start=self.step):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._diverged(step + 1, f"the loss is {loss} and its gradient's norm {norm}")
            n = min(self.config.bptt, len(self.source) - 1 - step * self.config.bptt)
            loss_sum, length = loss_sum + loss * n, length + n
        self.loss_sum += loss_sum
        self.step += len(results)
        return StepResult(self.epoch, self.step, len(results), loss_sum / length, length * self.config.batch_size)

    def _finish_epoch(self) -> EpochResult:
        """Validate, keep the model if it is the best, else lower the learning rate, and start the next epoch."""
        loss = torch.tensor(evaluate(self.model, self.valid, self.config.bptt), dtype=torch.float64, device=self.device)
        valid_loss = self.group.mean(loss).item()  # the same number in all processes, so that they decide alike
        if not math.isfinite(valid_loss):
            raise self._diverged(self.steps, f"the validation loss is {valid_loss}")
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
        """Return a copy of the model with the smallest validation loss, on the CPU."""
        model = LSTMModel(self.model.config)
        model.load_state_dict(self.best)
        return model

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, as tensors and plain numbers. All processes must call it.

        The tensors share memory with the run. Save or copy them before the run goes on.

        Raises:
            TrainingError: if a weight is not finite.
        """
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise self._diverged(self.step, "a weight is not finite")
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
        """Continue from a state that :meth:`state` returned.

        ``epochs``, ``lr`` and ``clip`` may differ. A new ``lr`` takes effect at once; with the old one, the run keeps
        the learning rate that it had reached.

        Raises:
            TrainingError: if the state is of another model, corpus or config, or not the state of a run.
        """
        now = {**asdict(self.model.config), **asdict(self.config), "corpus": self._corpus}
        try:
            then = {**state["model_config"], **state["train_config"], "corpus": state["corpus"]}
            for name in ("corpus", *(now.keys() - CHANGEABLE - {"corpus"})):
                if then[name] != now[name]:
                    raise TrainingError(f"it is of another run: its {name} is {then[name]}, expected {now[name]}")
            if state["position"][0] > self.config.epochs:
                raise TrainingError(f"it has {state['position'][0]} finished epochs, more than {self.config.epochs}")
            self.epoch, self.step, self.loss_sum, self.best_loss = state["position"]
            h, c = (self.group.shard(part) for part in state["hidden"])
            self.hidden, self.best = (h, c), dict(state["best"])
            self.best_model()  # checks the weights
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(dict(state["optimizer"]))
            if then["lr"] != self.config.lr:
                self._set_lr(self.config.lr)
        except TrainingError:
            raise
        except (AttributeError, KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
            raise TrainingError(f"it is not the state of a run: {one_line(error)}") from None

    def _diverged(self, step: int, reason: str) -> TrainingError:
        rates = f"the learning rate ({self._lr():g}) or the clipping norm ({self.config.clip:g})"
        return TrainingError(f"epoch {self.epoch + 1}, step {step}: {reason}: lower {rates}")

    def _weights(self) -> dict[str, Tensor]:
        return {key: value.detach().to("cpu", copy=True) for key, value in self.model.state_dict().items()}

    def _lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.dtype == "bfloat16")
