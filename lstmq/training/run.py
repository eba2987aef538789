"""Trains to the end or to an interrupt, and saves what a resumed run needs: :func:`run_training`."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from lstmq.files import atomic_write, check_replaceable
from lstmq.model import ModelConfig, read_tensors, save_checkpoint
from lstmq.training.config import TrainConfig
from lstmq.training.log import TrainingLog
from lstmq.training.results import EpochResult, StepResult, TrainingError
from lstmq.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files of a run.

    Attributes:
        best: checkpoint of the best model so far.
        log: log of the losses.
        save_every: minutes between two saves of the state.
        writes: whether this process writes. In a process group, only one does.
    """

    best: Path
    log: TrainingLog
    save_every: float
    writes: bool

    def save_state(self, trainer: Trainer) -> None:
        """Save the state of the run. All processes must call it."""
        state = trainer.state()
        if self.writes:
            with atomic_write(resume_path(self.best)) as temporary:
                torch.save(state, temporary)

    def save_best(self, trainer: Trainer) -> None:
        """Save the best model so far, if there is one."""
        if self.writes and trainer.best_loss < math.inf:
            save_checkpoint(trainer.best_model(), self.best)

    def delete_state(self) -> None:
        """Delete the state: the run is finished."""
        if self.writes:
            resume_path(self.best).unlink(missing_ok=True)


def resume_path(out: Path) -> Path:
    """Return where the state of an unfinished run is saved."""
    return out.with_name(f"{out.name}.resume")


def read_state(out: Path, resume: bool) -> Any:
    """Return the state to resume, or ``None`` for a new run.

    Args:
        out: checkpoint of the best model.
        resume: whether to resume an unfinished run. Without one, the run is new.

    Raises:
        ValueError: if a new run would overwrite an unfinished one, there is nothing to resume, or the state is damaged.
        OSError: if the folder of ``out`` does not exist, or ``out`` is no regular file.
    """
    check_replaceable(out)
    path = resume_path(out)
    if path.exists():
        if not resume:
            raise ValueError(f"{path} is an unfinished run: go on with --resume, or delete it")
        return read_tensors(path)
    if resume and out.exists():
        raise ValueError(f"nothing to resume: {out} exists and {path.name} does not, so the run is finished")
    return None


def saved_settings(state: Any) -> dict[str, Any]:
    """Return the settings that a run was started with, by their names in ``ModelConfig`` and ``TrainConfig``.

    Raises:
        TrainingError: if another version of lstmq saved the state.
    """
    try:
        settings = {**state["model_config"], **state["train_config"]}
    except (KeyError, TypeError, IndexError):
        settings = {}
    names = {field.name for field in (*fields(ModelConfig), *fields(TrainConfig))}
    if settings.keys() != names or not all(isinstance(value, int | float | str) for value in settings.values()):
        raise TrainingError("it is not the state of a run of this version")
    return settings


def run_training(
    trainer: Trainer,
    outputs: Outputs,
    interrupted: threading.Event,
    on_step: Callable[[StepResult, float], object],
    on_epoch: Callable[[EpochResult, float], object],
) -> bool:
    """Train, and save the state every few minutes, after every epoch and at an interrupt.

    A state file marks a run as unfinished, so it is written before the first step and before every best model. A run
    that is killed between the two saves the best model when it is resumed.

    Args:
        trainer: the run.
        outputs: its files.
        interrupted: stops the run after the step during which it is set. In a process group, one process is enough.
        on_step: called with a result and the tokens per second so far.
        on_epoch: called with a result and the seconds of the epoch.

    Returns:
        Whether the run is finished.

    Raises:
        TrainingError: if the loss or the gradient is not finite.
        OSError: if a file cannot be written.
    """
    log, tokens, seconds, epoch_seconds = outputs.log, 0, 0.0, 0.0
    outputs.save_state(trainer)
    outputs.save_best(trainer)
    saved = last = time.monotonic()
    for result in trainer.run():
        elapsed = time.monotonic() - last
        epoch_seconds += elapsed
        epoch, loss = result.epoch + 1, result.loss
        if isinstance(result, StepResult):
            tokens, seconds = tokens + result.tokens, seconds + elapsed
            speed = tokens / seconds
            log.write("step", epoch, result.step, steps=trainer.steps, loss=loss, tokens_per_second=round(speed, 1))
            on_step(result, speed)
        else:
            log.write("epoch", epoch, trainer.steps, lr=result.lr, train_loss=loss, valid_loss=result.valid_loss)
            on_epoch(result, epoch_seconds)
            epoch_seconds = 0.0
        stop = trainer.group.any(interrupted.is_set())
        due = isinstance(result, EpochResult) or time.monotonic() - saved > outputs.save_every * 60
        if trainer.group.any(stop or due):
            outputs.save_state(trainer)
            saved = time.monotonic()
        if isinstance(result, EpochResult) and result.improved:
            outputs.save_best(trainer)
        if stop:
            return False
        last = time.monotonic()
    return True
