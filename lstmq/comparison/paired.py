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

OnWindow = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """The median of paired ratios, and the quartiles that enclose half of them.

    Attributes:
        median: the median.
        lower: the first quartile.
        upper: the third quartile.
    """

    median: float
    lower: float
    upper: float

    @classmethod
    def of_pairs(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Quartiles":
        """Divide pair by pair, so that a slow moment of the machine affects both sides of its pair."""
        ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
        lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return cls(median=median, lower=lower, upper=upper)


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """The figures of one model in a comparison.

    Attributes:
        name: ``float32`` or the scheme.
        size: serialised bytes.
        loss: nats per token.
        tokens: number of timed tokens.
        seconds: time for these tokens, on :func:`clock`.
        speedup: seconds of float32 over those of this model, window by window.
        size_ratio: bytes of float32 over those of this model.
        loss_difference: loss of this model minus that of float32.
        setup_seconds: wall time to build the model and to read the first window, before the timing starts.
        in_nats: whether the loss is a cross-entropy, which has a perplexity.
    """

    name: str
    size: ModelSize
    loss: float
    tokens: int
    seconds: float
    speedup: Quartiles
    size_ratio: float
    loss_difference: float
    setup_seconds: float
    in_nats: bool = True

    @property
    def perplexity(self) -> float | None:
        """``exp(loss)``, or ``None`` if the loss is not a cross-entropy."""
        return perplexity(self.loss) if self.in_nats else None

    @property
    def tokens_per_second(self) -> float:
        """Timed tokens per second."""
        return self.tokens / self.seconds


def clock() -> Callable[[], float]:
    """Return the clock for timing windows, in seconds.

    With one thread, it is the CPU time of that thread, which excludes other programs. With several, it is wall time.
    """
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def compare(
    workload: Workload, schemes: Sequence[str], bptt: int, engine: str | None = None, on_window: OnWindow | None = None
) -> list[ComparisonRow]:
    """Measure size, loss and speed of float32 and of every scheme.

    All models read one window, then all read the next, so that other load on the machine affects them alike.

    Args:
        workload: what to measure.
        schemes: keys of :data:`~lstmq.SCHEMES`.
        bptt: longest window, in steps.
        engine: torch's int8 engine, as for :func:`~lstmq.quantize`.
        on_window: called with the tokens of a window when every model has read it.

    Returns:
        The row of float32, then the rows of the schemes, the slowest first.

    Raises:
        ValueError: as :func:`~lstmq.quantize` and :func:`~lstmq.evaluate` do.

    Example:
        >>> from lstmq import LSTMModel, ModelConfig, Subject, Workload, batchify, compare, next_words
        >>> import torch
        >>> model = LSTMModel(ModelConfig(ntoken=50, ninp=16, nhid=16, nlayers=1)).eval()
        >>> stream = next_words(batchify(torch.arange(50), 1))
        >>> subject = Subject(model=model, stream=stream, origin="a small model")
        >>> rows = compare(Workload(speed=subject, loss=subject), ["int8"], bptt=25)
        >>> [(row.name, row.tokens) for row in rows]
        [('float32', 49), ('int8', 49)]
    """
    models, setup_seconds = {}, {}
    for name in (FLOAT32, *schemes):
        start = time.perf_counter()
        models[name] = workload.speed.model if name == FLOAT32 else quantize(workload.speed.model, name, engine)
        _warm_up(models[name], workload.speed.stream, bptt)
        setup_seconds[name] = time.perf_counter() - start
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
            setup_seconds=setup_seconds[name],
            in_nats=workload.loss.stream.loss is None,
        )
        for name in models
    ]
    return rows[:1] + sorted(rows[1:], key=lambda row: row.speedup.median)


def _warm_up(model: nn.Module, stream: Stream, bptt: int) -> None:
    """Read one window of every length, because an engine may prepare itself for each."""
    for length in {min(bptt, len(stream)), len(stream) % bptt} - {0}:
        evaluate(model, stream.slice(0, length), length)


def _interleave(
    models: Mapping[str, nn.Module], stream: Stream, bptt: int, on_window: OnWindow | None
) -> tuple[dict[str, list[float]], dict[str, list[WindowLoss]]]:
    """Return the seconds and losses of each model by window. The model that reads first changes with every window."""
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
