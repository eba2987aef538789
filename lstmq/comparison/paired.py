"""Float32 and the schemes side by side, on the same windows: :func:`compare`."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lstmq.model import ModelSize, WindowLoss, evaluate, mean_loss, model_size, perplexity, window_losses
from lstmq.quantization import FLOAT32, quantize
from lstmq.text import Stream
from lstmq.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """The median of paired ratios, and the quartiles between which half of them lie."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of_pairs(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Quartiles":
        """Divide pair by pair: a moment in which the machine was slow hurts both sides of its pair."""
        ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
        lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return cls(median=median, lower=lower, upper=upper)


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One model of a comparison.

    Attributes:
        name: ``float32`` or the scheme's.
        size: serialised bytes.
        loss: nats per token.
        tokens: how many were timed.
        seconds: spent on them, on :func:`clock`.
        speedup: float32's seconds over this one's, window by window.
        size_ratio: float32's bytes over this one's.
        loss_difference: this one's loss less float32's.
        ready: seconds of wall time until it had been made and had read once, before it was timed.
        in_nats: whether the loss is a cross-entropy, of which there is a perplexity.
    """

    name: str
    size: ModelSize
    loss: float
    tokens: int
    seconds: float
    speedup: Quartiles
    size_ratio: float
    loss_difference: float
    ready: float
    in_nats: bool = True

    @property
    def perplexity(self) -> float | None:
        """``exp(loss)``, if that means anything."""
        return perplexity(self.loss) if self.in_nats else None

    @property
    def tokens_per_second(self) -> float:
        """Timed tokens over their seconds."""
        return self.tokens / self.seconds


def clock() -> Callable[[], float]:
    """Return what is read before and after a window, in seconds.

    On one thread that is its CPU time, which leaves out what other programs take. On several it is wall time.
    """
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def compare(
    workload: Workload,
    schemes: Sequence[str],
    bptt: int,
    engine: str | None = None,
    on_window: Callable[[int], object] | None = None,
) -> list[ComparisonRow]:
    """Measure float32 and every scheme; return float32's row and then the others', the slowest first.

    Args:
        workload: what to measure on.
        schemes: keys of :data:`lstmq.SCHEMES`.
        bptt: longest window, in steps.
        engine: of the int8 schemes, as for :func:`lstmq.quantize`.
        on_window: called with a window's tokens when every model has read them.

    Raises:
        ValueError: as :func:`lstmq.quantize` and :func:`lstmq.evaluate` do.
    """
    models, ready = {}, {}
    for name in (FLOAT32, *schemes):
        start = time.perf_counter()
        models[name] = workload.speed.model if name == FLOAT32 else quantize(workload.speed.model, name, engine)
        _warm_up(models[name], workload.speed.stream, bptt)
        ready[name] = time.perf_counter() - start
    sizes = {name: model_size(model) for name, model in models.items()}
    seconds, losses = _interleave(models, workload.speed.stream, bptt, on_window)
    if workload.loss is workload.speed:
        means = {name: mean_loss(windows) for name, windows in losses.items()}
    else:
        model, stream = workload.loss.model, workload.loss.stream
        means = {FLOAT32: evaluate(model, stream, bptt)}
        means |= {scheme: evaluate(quantize(model, scheme, engine), stream, bptt) for scheme in schemes}
    rows = [
        ComparisonRow(
            name=name,
            size=sizes[name],
            loss=means[name],
            tokens=sum(window.tokens for window in losses[name]),
            seconds=sum(seconds[name]),
            speedup=Quartiles.of_pairs(seconds[FLOAT32], seconds[name]),
            size_ratio=sizes[FLOAT32].total / sizes[name].total,
            loss_difference=means[name] - means[FLOAT32],
            ready=ready[name],
            in_nats=workload.loss.stream.loss is None,
        )
        for name in models
    ]
    return rows[:1] + sorted(rows[1:], key=lambda row: row.speedup.median)


def _warm_up(model: nn.Module, stream: Stream, bptt: int) -> None:
    """Let a model read a window of every length that there is, for which an engine may have to make itself ready."""
    for length in {min(bptt, len(stream)), len(stream) % bptt} - {0}:
        evaluate(model, stream.slice(0, length), length)


def _interleave(
    models: Mapping[str, nn.Module], stream: Stream, bptt: int, on_window: Callable[[int], object] | None
) -> tuple[dict[str, list[float]], dict[str, list[WindowLoss]]]:
    """Return each model's seconds and losses by window: all read one window, then all read the next.

    So a busy machine hurts them all alike. Who is first changes from window to window.
    """
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses: dict[str, list[WindowLoss]] = {name: [] for name in models}
    readers = {name: window_losses(model, stream, bptt) for name, model in models.items()}
    now = clock()
    order = deque(models)
    for _ in range(0, len(stream), bptt):
        for name in order:
            start = now()
            loss = next(readers[name])
            seconds[name].append(now() - start)
            losses[name].append(loss)
        order.rotate()
        if on_window:
            on_window(loss.tokens)
    return seconds, losses
