"""The log of a training run: :class:`TrainingLog` writes it, :func:`plot_log` draws it."""

import json
import sys
from pathlib import Path
from typing import Any, Self, TextIO

from lstmq.figures import save_figure
from lstmq.files import atomic_write, check_replaceable, is_stdout, to_finite


class TrainingLog:
    """A file with one JSON object per line, as a context manager.

    Each object has an ``event``, ``step`` or ``epoch``; the ``epoch`` and ``step`` that it is about, both from 1; and
    more values. A resumed run repeats the steps after its last save, so their lines are removed first.

    Args:
        path: the file; ``-`` is standard output, and ``None`` writes nothing.
        epoch: number of finished epochs. A new run has 0.
        step: number of finished steps of the next epoch.

    Raises:
        ValueError: if a resumed run finds another file than a log.
        OSError: if the file cannot be written, or is a pipe or a device.
    """

    def __init__(self, path: Path | None, epoch: int = 0, step: int = 0) -> None:
        self._file: TextIO | None = None
        if is_stdout(path):
            self._file = sys.stdout
        elif path:
            check_replaceable(path)
            lines = [] if (epoch, step) == (0, 0) else _lines_before(path, epoch, step)
            with atomic_write(path) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, epoch: int, step: int, **values: Any) -> None:
        """Append a line."""
        if self._file:
            self._file.write(json.dumps(to_finite({"event": event, "epoch": epoch, "step": step, **values})) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file and self._file is not sys.stdout:
            self._file.close()


def _lines_before(path: Path, epoch: int, step: int) -> list[str]:
    """Return the lines of a log up to a position, without a last line that was cut off."""
    lines = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            record = json.loads(line)
            is_step = record["event"] == "step"  # the line of an epoch comes after its last step
            if record["epoch"] <= epoch or (is_step and record["epoch"] == epoch + 1 and record["step"] <= step):
                lines.append(line)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path} is not the log of a run: expected JSON objects, found {line[:40]!r}") from None
    return lines


def plot_log(log: Path, path: Path) -> None:
    """Draw the losses of a log over its epochs.

    Args:
        log: a file that :class:`TrainingLog` wrote.
        path: the figure; :func:`~lstmq.figures.check_figure_path` accepts it.
    """
    from matplotlib.figure import Figure

    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = [record for record in records if record["event"] == "step"]
    epochs = [record for record in records if record["event"] == "epoch"]
    positions = [record["epoch"] - 1 + record["step"] / record["steps"] for record in steps]
    axes.plot(positions, [record["loss"] for record in steps], lw=0.7, label="step")
    for key, label in (("train_loss", "train, mean of an epoch"), ("valid_loss", "valid")):
        axes.plot([record["epoch"] for record in epochs], [record[key] for record in epochs], marker="o", label=label)
    axes.set(xlabel="epochs", ylabel="loss, nats per token")
    axes.legend()
    axes.grid(alpha=0.3)
    save_figure(figure, path)
