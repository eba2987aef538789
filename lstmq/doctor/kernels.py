"""Which share of the processor's peak each kernel reaches: :func:`measure_kernels`."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lstmq.comparison import Peak, Reading, bytes_per_word, measure_rates, memory_blocks
from lstmq.comparison.rates import Work
from lstmq.model import LSTMModel, ModelConfig
from lstmq.quantization import quantize
from lstmq.quantization.native import NativeModel, available_isas, loops, selected_isa
from lstmq.quantization.native.library import ISA_VARIABLE, KERNEL_ISAS, REFERENCE, load_library

SMALL = ModelConfig(ntoken=100, ninp=70, nhid=40, nlayers=2)  # sizes that no kernel divides evenly
WINDOW = 25
SECONDS, ROUNDS = 0.004, 15  # of one function in a round; rounds
WEIGHTS = "weights"  # a block of memory as large as the weights that a word needs


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel of int8-native, on the tutorial's shape and one thread.

    Attributes:
        isa: its instruction set.
        runs: whether int8-native may choose it here. Otherwise, nothing of it was measured.
        is_selected: whether it computes, as ``LSTMQ_ISA`` says or because it is the fastest.
        answers: ``right`` if its logits, state and loss have the bits of the reference; else what differs. Empty if
            this processor or this system cannot run it.
        peak: int8 products per second of its instructions, whose operands are in registers; ``None`` if unknown.
        second_loop: the same of another loop, with weights in the nearest cache, over ``peak``.
        products_per_second: that the kernel computes when it reads windows of 25 words, from ids to the loss.
        share: of ``peak`` that this is.
        us_per_token: microseconds per token when it reads such windows.
        us_per_word: microseconds per word when it reads one word at a time, from id to logits.
        reading_share: what only reading the weights takes, over that.
    """

    isa: str
    runs: bool
    is_selected: bool = False
    answers: str = ""
    peak: float | None = None
    second_loop: float | None = None
    products_per_second: float | None = None
    share: float | None = None
    us_per_token: float | None = None
    us_per_word: float | None = None
    reading_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """All kernels, and what bounds them.

    Attributes:
        kernels: those of this package, the slowest first.
        peak: of this processor; ``None`` without kernels.
        second_reading: memory read per second with C's ``memchr`` over that of ``peak``, by place.
        weights: int8 weights that a word needs, in bytes. It is also the number of products of a token.
        weights_us: microseconds in which one thread reads as much memory; ``None`` without kernels.
        rounds: how often everything was measured.
    """

    kernels: Sequence[Kernel]
    peak: Peak | None = None
    second_reading: dict[str, float]
    weights: int
    weights_us: float | None = None
    rounds: int = 0


def measure_kernels(at_most: float = 4.0) -> Kernels:
    """Measure all kernels in turn.

    Args:
        at_most: seconds after which no new round begins.
    """
    kernel_isas, config = available_isas()[1:], ModelConfig()
    products = bytes_per_word(config)
    if not kernel_isas:
        return Kernels(kernels=[*map(_not_running, KERNEL_ISAS)], second_reading={}, weights=products)
    model = _make_model(config)
    answers = {isa: check_answers(isa) for isa in kernel_isas}
    fastest, blocks = kernel_isas[-1], memory_blocks()
    works: dict[str, Work] = {}
    for where, memory in {**blocks, WEIGHTS: torch.full((products,), 1, dtype=torch.uint8)}.items():
        works[where] = partial(loops.read, fastest, memory)
        works[f"{where} again"] = partial(loops.search, memory)
    for isa in kernel_isas:
        works[f"{isa} window"] = partial(_read_windows, model, isa)
        works[f"{isa} word"] = partial(_read_words, model, isa)
        if loops.multiply(isa, 1):
            works[f"{isa} peak"] = partial(loops.multiply, isa)
            works[f"{isa} again"] = partial(loops.multiply_cached, isa)
    rates = measure_rates(works, time.thread_time, seconds=SECONDS, rounds=ROUNDS, at_most=at_most, at_least=3)
    medians = {name: statistics.median(found) for name, found in rates.items()}

    def over(name: str, other: str, factor: float = 1.0) -> float | None:
        if other not in rates:
            return None
        return statistics.median(factor * a / b for a, b in zip(rates[name], rates[other], strict=True))

    measured = {
        isa: Kernel(
            isa=isa,
            runs=True,
            is_selected=isa == selected_isa(),
            answers=answers[isa],
            peak=medians.get(f"{isa} peak"),
            second_loop=over(f"{isa} again", f"{isa} peak") if f"{isa} again" in rates else None,
            products_per_second=medians[f"{isa} window"] * products,
            share=over(f"{isa} window", f"{isa} peak", products),
            us_per_token=1e6 / medians[f"{isa} window"],
            us_per_word=1e6 / medians[f"{isa} word"],
            reading_share=over(f"{isa} word", WEIGHTS, products),
        )
        for isa in kernel_isas
    }
    reading = [
        Reading(where=where, size=memory.numel(), bytes_per_second=medians[where]) for where, memory in blocks.items()
    ]
    peaks = [(kernel.peak, kernel.isa) for kernel in measured.values() if kernel.peak]
    most, isa = max(peaks, default=(0.0, ""))
    return Kernels(
        kernels=[measured.get(isa) or _not_running(isa) for isa in KERNEL_ISAS],
        peak=Peak(isa=isa, products_per_second=most, reading=tuple(reading)) if most else None,
        second_reading={where: medians[f"{where} again"] / medians[where] for where in (*blocks, WEIGHTS)},
        weights=products,
        weights_us=1e6 * products / medians[WEIGHTS],
        rounds=len(rates[WEIGHTS]),
    )


def check_answers(isa: str) -> str:
    """Return ``right`` if a kernel computes the reference's bits for a small model, or else what differs."""
    model = _make_model(SMALL)
    ids = torch.arange(14).view(7, 2) * 7 % SMALL.ntoken
    found = {}
    for name in (REFERENCE, isa):
        with using_isa(name):
            logits, (h, c) = model(ids, model.init_hidden(2))
            loss, _ = model.window_loss(ids, ids.flip(0), model.init_hidden(2))
        found[name] = {"logits": logits, "hidden state": h, "cell state": c, "loss": loss}
    expected, got = found[REFERENCE], found[isa]
    wrong = [name for name in ("logits", "hidden state", "cell state") if not torch.equal(expected[name], got[name])]
    if not torch.isclose(expected["loss"], got["loss"], rtol=1e-5, atol=1e-4):  # the reference sums in another order
        wrong.append("loss")
    return f"wrong: {', '.join(wrong)}" if wrong else "right"


def _not_running(isa: str) -> Kernel:
    """Return a kernel that int8-native does not choose from. If it could run, its known answers were wrong."""
    library = load_library()
    can_run = library is not None and library.lstmq_can_run(KERNEL_ISAS.index(isa))
    return Kernel(isa=isa, runs=False, answers="wrong: left out" if can_run else "")


@contextmanager
def using_isa(isa: str) -> Iterator[None]:
    """Let a kernel, or the reference, compute while the block runs."""
    before = os.environ.get(ISA_VARIABLE)
    os.environ[ISA_VARIABLE] = isa
    try:
        yield
    finally:
        if before is None:
            del os.environ[ISA_VARIABLE]
        else:
            os.environ[ISA_VARIABLE] = before


def _make_model(config: ModelConfig) -> NativeModel:
    model = quantize(LSTMModel(config, torch.Generator().manual_seed(0)).eval(), "int8-native")
    assert isinstance(model, NativeModel)  # noqa: S101 - the scheme says so, which types cannot
    return model


def _ids(model: NativeModel, steps: int) -> Tensor:
    return (torch.arange(steps).view(steps, 1) * 101) % model.config.ntoken


@torch.inference_mode()
def _read_windows(model: NativeModel, isa: str, count: int) -> int:
    ids, hidden = _ids(model, WINDOW), model.init_hidden(1)
    with using_isa(isa):
        for _ in range(count):
            _, hidden = model.window_loss(ids, ids, hidden)
    return count * WINDOW


@torch.inference_mode()
def _read_words(model: NativeModel, isa: str, count: int) -> int:
    ids, hidden = _ids(model, 1), model.init_hidden(1)
    with using_isa(isa):
        for _ in range(count):
            _, hidden = model(ids, hidden)
    return count
