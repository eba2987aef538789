"""Prints where the time of int8-native goes, and what a second thread gains: ``python benchmarks/stages.py``.

The model has the tutorial's shape and seeded weights. It takes a minute. The second table is in wall time, so nothing
else may run.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref
from functools import partial

import torch

from lstmq import Dictionary, LSTMModel, ModelConfig, generate, quantize
from lstmq.comparison import bytes_per_word, measure_rates
from lstmq.quantization.native import NativeModel, available_isas, loops, selected_isa
from lstmq.quantization.native.library import find_kernel
from lstmq.quantization.native.packing import WindowStruct

WINDOW = 25
Read = Callable[[int], float]


def make_model() -> NativeModel:
    model = quantize(LSTMModel(ModelConfig(), torch.Generator().manual_seed(0)).eval(), "int8-native")
    assert isinstance(model, NativeModel)
    return model


def random_ids(model: NativeModel, steps: int, columns: int = 1) -> torch.Tensor:
    return torch.randint(model.config.ntoken, (steps, columns), generator=torch.Generator().manual_seed(0))


def kernel_call(model: NativeModel, steps: int, *, logits: bool = False, loss: bool = False) -> Read:
    """Return a function that reads windows with one call of the kernel each, without what Python does around it."""
    packed, (kernels, index) = model._pack(), find_kernel(selected_isa())
    width = -(-model.config.ntoken // 64) * 64
    ids, (h, c) = random_ids(model, steps), model.init_hidden(1)
    tensors = {"input": ids, "hidden": h, "cell": c}
    if logits:
        tensors["logits"] = torch.empty(steps, 1, width)
    if loss:
        tensors |= {"targets": ids, "loss": torch.zeros(())}
    window = WindowStruct(steps, 1, **{name: tensor.data_ptr() for name, tensor in tensors.items()})

    def read(count: int) -> int:
        for _ in range(count):
            assert kernels.lstmq_read_window(byref(packed._struct), index, 1, byref(window)) == 0
        return count * len(tensors["input"])  # which also keeps the tensors

    return read


@torch.inference_mode()
def read_words(model: NativeModel, count: int) -> int:
    ids, hidden = random_ids(model, 1), model.init_hidden(1)
    for _ in range(count):
        _, hidden = model(ids, hidden)
    return count


@torch.inference_mode()
def read_windows(model: NativeModel, columns: int, count: int) -> int:
    ids, hidden = random_ids(model, WINDOW, columns), model.init_hidden(columns)
    for _ in range(count):
        _, hidden = model.window_loss(ids, ids, hidden)
    return count * WINDOW * columns


def generate_words(words: Iterator[str], count: int) -> int:
    for _ in range(count):
        next(words)
    return count


def read_weights(memory: torch.Tensor, count: int) -> int:
    loops.read(available_isas()[-1], memory, count)
    return count


def print_stages(model: NativeModel) -> None:
    dictionary = Dictionary()
    for number in range(model.config.ntoken):
        dictionary.add_word(str(number))
    words = generate(model, dictionary, 10**9, generator=torch.Generator().manual_seed(0))
    memory = torch.full((bytes_per_word(model.config),), 1, dtype=torch.uint8)
    rates = measure_rates(
        {
            "word, layers": kernel_call(model, 1),
            "word, kernel": kernel_call(model, 1, logits=True),
            "word": partial(read_words, model),
            "word, drawn": partial(generate_words, words),
            "reading": partial(read_weights, memory),
            "window, layers": kernel_call(model, WINDOW),
            "window, kernel": kernel_call(model, WINDOW, loss=True),
            "window": partial(read_windows, model, 1),
            "peak": partial(loops.multiply, selected_isa()),
        },
        time.thread_time,
        seconds=0.03,
        rounds=21,
        at_most=60,
    )
    us = {name: [1e6 / rate for rate in found] for name, found in rates.items()}

    def line(what: str, name: str, less: str = "") -> None:
        found = [a - b for a, b in zip(us[name], us[less], strict=True)] if less else us[name]
        print(f"{what:44}{statistics.median(found):8.1f}")

    print("microseconds per token, CPU time")
    line("one word: layers", "word, layers")
    line("one word: decoder", "word, kernel", "word, layers")
    line("one word: Python and torch", "word", "word, kernel")
    line("one word: drawing it, in lstmq.generate", "word, drawn", "word")
    line("only reading the weights", "reading")
    line(f"a window of {WINDOW}: layers", "window, layers")
    line(f"a window of {WINDOW}: decoder and loss", "window, kernel", "window, layers")
    line(f"a window of {WINDOW}: Python and torch", "window", "window, kernel")
    for name in ("word, kernel", "word"):
        over = statistics.median(a / b for a, b in zip(us[name], us["reading"], strict=True))
        print(f"{name}, over reading: {over:.2f}")
    products = bytes_per_word(model.config)
    share = statistics.median(products * a / b for a, b in zip(rates["window"], rates["peak"], strict=True))
    print(f"windows, share of the peak: {share:.2f}")


def print_threads(model: NativeModel) -> None:
    pool = ThreadPoolExecutor(2)

    def seconds(work: Callable[[], object]) -> float:
        before = time.perf_counter()
        work()
        return time.perf_counter() - before

    def read(columns: int, threads: int) -> None:
        torch.set_num_threads(threads)
        read_windows(model, columns, 1 + 16 // columns)
        torch.set_num_threads(1)

    def stream() -> object:
        return read_windows(model, 1, 16)

    def multiply() -> object:
        return loops.multiply(selected_isa(), 2_000_000)

    def twice(work: Callable[[], object]) -> Callable[[], object]:
        return lambda: [future.result() for future in [pool.submit(work), pool.submit(work)]]

    works = {f"{n} columns": (partial(read, n, 1), partial(read, n, 2), 1) for n in (2, 4, 8, 20)}
    works["two streams"] = (stream, twice(stream), 2)
    works["products in registers"] = (multiply, twice(multiply), 2)
    gains: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(15):
        for name, (one, two, more) in works.items():
            gains[name].append(more * seconds(one) / seconds(two))
    print("\ntwo threads over one, wall time: the median, and the quartiles")
    for name, found in gains.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"{name:24}{middle:5.2f} ({low:.2f}-{high:.2f})")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_stages(make_model())
    print_threads(make_model())
