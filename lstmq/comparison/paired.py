"""Float32 and the schemes side by side, on the same windows: :func:`compare`."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from lstmq.comparison.rows import Comparison, ComparisonRow, Quartiles
from lstmq.comparison.timing import clock, measure_mkldnn_off, warm_up
from lstmq.comparison.words import measure_words
from lstmq.errors import QuantizationError, one_line
from lstmq.model import LSTMModel, WindowLoss, evaluate, mean_loss, model_size, preserve_random_state, window_losses
from lstmq.quantization import FLOAT32, SCHEMES, describe_coverage, kept_modules, quantize
from lstmq.text import Stream
from lstmq.workload import Subject, Workload

OnWindow = Callable[[int], object]
NATIVE, ORT_FP32 = "int8-native", "ort-fp32"


def compare(
    workload: Workload, schemes: Sequence[str], bptt: int, engine: str | None = None, on_window: OnWindow | None = None
) -> Comparison:
    """Measure size, loss and speed of float32 and of every scheme.

    All models read one window, then all read the next, so that other load on the machine affects them alike. A scheme
    that fails is left out, with its reason.

    Args:
        workload: what to measure.
        schemes: keys of :data:`~lstmq.SCHEMES`.
        bptt: longest window, in steps.
        engine: torch's int8 engine, as for :func:`~lstmq.quantize`.
        on_window: called with the tokens of a window when every model has read it.

    Raises:
        QuantizationError: if every scheme fails.
        ValueError: if float32 fails, as :func:`~lstmq.evaluate` does.

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
    for subject in (workload.speed, workload.loss):
        kept_modules(subject.model, subject.keep)
    with preserve_random_state():
        return _compare(workload, schemes, bptt, engine, on_window)


def _compare(
    workload: Workload, schemes: Sequence[str], bptt: int, engine: str | None, on_window: OnWindow | None
) -> Comparison:
    speed = workload.speed
    models, setup_seconds, coverage = {}, {}, {}
    left_out: dict[str, str] = {}
    for name in (FLOAT32, *schemes):
        with _leaving_out(name, left_out):
            start = time.perf_counter()
            model = _prepare(speed, name, engine)
            warm_up(model, speed.stream, bptt)
            setup_seconds[name] = time.perf_counter() - start
            coverage[name] = describe_coverage(speed.model, model, name) if name != FLOAT32 else None
            models[name] = model
    sizes = {name: model_size(model) for name, model in models.items()}
    seconds, losses = _interleave(models, speed.stream, bptt, left_out, on_window)
    means = {}
    for name in [name for name in models if name not in left_out]:
        with _leaving_out(name, left_out):
            if workload.loss is speed:
                means[name] = _finite(mean_loss(losses[name]), name)
            else:
                model = _prepare(workload.loss, name, engine)
                means[name] = _finite(evaluate(model, workload.loss.stream, bptt), name)
    measured = [name for name in models if name not in left_out]
    if schemes and measured == [FLOAT32]:
        raise QuantizationError("; ".join(f"{name} failed: {why}" for name, why in left_out.items()))
    beside = _float32_beside({name: models[name] for name in measured}, speed)
    words, _ = measure_words({name: models[name] for name in measured} | beside, speed.stream)
    rows = [
        ComparisonRow(
            name=name,
            size=sizes[name],
            loss=means[name],
            tokens=speed.stream.tokens,
            seconds=sum(seconds[name]),
            speedup=Quartiles.of_pairs(seconds[FLOAT32], seconds[name]),
            size_ratio=sizes[FLOAT32].total / sizes[name].total,
            loss_difference=means[name] - means[FLOAT32],
            setup_seconds=setup_seconds[name],
            in_nats=workload.loss.stream.loss is None,
            coverage=coverage[name],
            us_per_word=words.pop(name, None),
        )
        for name in measured
    ]
    ordered = rows[:1] + sorted(rows[1:], key=lambda row: row.speedup.median)
    return Comparison(ordered, left_out, measure_mkldnn_off(speed.model, speed.stream, bptt), words)


def _float32_beside(models: Mapping[str, nn.Module], subject: Subject[nn.Module]) -> dict[str, nn.Module]:
    """Return float32 in ONNX Runtime, to time word by word beside int8-native, if that was measured.

    torch's float32 packs the weights of its LSTM again for every window, which hardly anybody else does.
    """
    is_readable = isinstance(subject.model, LSTMModel) and not SCHEMES[ORT_FP32].missing()
    if NATIVE not in models or ORT_FP32 in models or not is_readable:
        return {}
    return {ORT_FP32: _prepare(subject, ORT_FP32, None)}


@contextmanager
def _leaving_out(name: str, left_out: dict[str, str]) -> Iterator[None]:
    """Leave a scheme out if the block raises an error. If float32 fails, there is nothing to compare with."""
    try:
        yield
    except Exception as error:  # code of the user, with modules that it does not expect
        if name == FLOAT32:
            raise
        left_out[name] = one_line(error)


def _prepare(subject: Subject[nn.Module], name: str, engine: str | None) -> nn.Module:
    return subject.model if name == FLOAT32 else quantize(subject.model, name, engine, subject.keep)


def _finite(loss: float, name: str) -> float:
    if not math.isfinite(loss):
        raise ValueError(f"{name}'s own loss is {'NaN' if math.isnan(loss) else 'infinite'}")
    return loss


def _interleave(
    models: Mapping[str, nn.Module], stream: Stream, bptt: int, left_out: dict[str, str], on_window: OnWindow | None
) -> tuple[dict[str, list[float]], dict[str, list[WindowLoss]]]:
    """Return the seconds and losses of each model by window. The model that reads first changes with every window."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses: dict[str, list[WindowLoss]] = {name: [] for name in models}
    readers = {name: window_losses(model, stream, bptt) for name, model in models.items()}
    now = clock()
    order = deque(models)
    for window in stream.windows(bptt):
        for name in order:
            if name in left_out:
                continue
            with _leaving_out(name, left_out):
                start = now()
                loss = next(readers[name])
                seconds[name].append(now() - start)
                losses[name].append(loss)
        order.rotate()
        if on_window:
            on_window(window.tokens)
    return seconds, losses
