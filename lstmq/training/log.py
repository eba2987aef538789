"""The curves of a training run: written line by line, read, and drawn."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lstmq.figures import save_figure
from lstmq.files import atomic_write


class TrainingLog:
    """A file of JSON objects, one a line, each with ``event``, ``epoch`` and ``step`` (both counted from 1) and more.

    Lines past the position that a resumed run goes on from are taken out first, since it will write them again.

    Args:
        path: of the file; without one, nothing is written.
        epoch: epochs that are done.
        step: steps of the next epoch that are done.

    Raises:
        ValueError: if what is there to go on from is not the log of a run.
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path | None, epoch: int = 0, step: int = 0) -> None:
        self._file = None
        if path:
            if path.exists() and not path.is_file():
                raise ValueError(f"expected a file for the log, which a resumed run reads, found {path}")
            kept = [] if (epoch, step) == (0, 0) else _lines(path, epoch, step)
            with atomic_write(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, epoch: int, step: int, **values: Any) -> None:
        """Add a line."""
        if self._file:
            self._file.write(json.dumps({"event": event, "epoch": epoch, "step": step, **values}) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()


def _lines(path: Path, epoch: int, step: int) -> list[str]:
    """Return the log's lines up to a position, less one that was cut off."""
    kept = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            record = json.loads(line)
            last = epoch if record["event"] == "epoch" else epoch + 1
            if record["epoch"] < last or (record["epoch"] == last and (last == epoch or record["step"] <= step)):
                kept.append(line.rstrip("\n"))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path} is not the log of a run: expected JSON objects, found {line[:40]!r}") from None
    return kept


def plot_log(log: Path, path: Path) -> None:
    """Draw the losses of a log over its steps, in what :func:`check_plot` passes."""
    from matplotlib.figure import Figure

    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = [record for record in records if record["event"] == "step"]
    epochs = [record for record in records if record["event"] == "epoch"]
    axes.plot([r["epoch"] - 1 + r["step"] / r["of"] for r in steps], [r["loss"] for r in steps], lw=0.7, label="a step")
    for key, label in (("train_loss", "train, an epoch"), ("valid_loss", "valid")):
        axes.plot([r["epoch"] for r in epochs], [r[key] for r in epochs], marker="o", label=label)
    axes.set(xlabel="epochs", ylabel="loss, nats per token")
    axes.legend()
    axes.grid(alpha=0.3)
    save_figure(figure, path)
