"""What is timed: the rows of each table, and the least time that a recurrent module can take."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lstmq.comparison import Peak, cache_sizes

WIDTHS = (40, 100, 128, 200, 256, 512, 1024, 2048)
WINDOW, LABELS = 25, 64


@dataclass(frozen=True, kw_only=True)
class Row:
    """A module and its arguments.

    Attributes:
        name: of the row.
        module: float32.
        arguments: what it reads: an input, and the state of a cell.
    """

    name: str
    module: nn.Module
    arguments: tuple[Tensor | tuple[Tensor, ...], ...]


class Decoder(nn.Module):
    """An LSTM layer and a small decoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(width, width), nn.Linear(width, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0])


def module_rows() -> list[Row]:
    """Return recurrent modules of usual sizes, with one sequence and with eight."""
    torch.manual_seed(0)
    modules = {
        "BiLSTM 2x256 over 128": (nn.LSTM(128, 256, 2, bidirectional=True), 100),
        "GRU 3x512 over 80": (nn.GRU(80, 512, 3), 100),
        "LSTM 2x1024": (nn.LSTM(1024, 1024, 2), 100),
        "LSTM 1x64 over 8": (nn.LSTM(8, 64), 200),
    }
    return [
        Row(name=f"{name}, batch {columns}", module=module, arguments=(torch.randn(steps, columns, module.input_size),))
        for name, (module, steps) in modules.items()
        for columns in (1, 8)
    ]


def width_rows() -> list[Row]:
    """Return an LSTM with a small decoder for each width, which reads windows of one sequence."""
    torch.manual_seed(0)
    return [
        Row(name=f"LSTM and decoder, width {n}", module=Decoder(n), arguments=(torch.randn(WINDOW, 1, n),))
        for n in WIDTHS
    ]


def step_rows() -> list[Row]:
    """Return cells for each width, which take one step with one column."""
    torch.manual_seed(0)
    states = {nn.LSTMCell: lambda n: (torch.randn(1, n), torch.randn(1, n)), nn.GRUCell: lambda n: torch.randn(1, n)}
    return [
        Row(name=f"{cell.__name__}, width {n}", module=cell(n, n), arguments=(torch.randn(1, n), state(n)))
        for n in WIDTHS
        for cell, state in states.items()
    ]


def thread_row() -> Row:
    """Return the module whose two directions share the work of two threads."""
    return module_rows()[1]


def floor(module: nn.Module, x: Tensor, peak: Peak) -> float:
    """Return the seconds that a module takes at least.

    The products with the input are computed at the peak. In each step, the larger one counts: its products with the
    state at the peak, or reading the int8 weights for them once from the nearest cache that holds them.

    Args:
        module: an ``nn.LSTM`` or an ``nn.GRU``.
        x: shape ``(steps, columns, input_size)``.
        peak: of this processor.
    """
    steps, columns, _ = x.shape
    total = 0.0
    for name, weight in module.named_parameters():
        if "weight_ih" in name:
            total += steps * columns * weight.numel() / peak.products_per_second
        elif "weight_hh" in name:
            products = columns * weight.numel() / peak.products_per_second
            total += steps * max(products, weight.numel() / reading_rate(weight.numel(), peak))
    return total


def reading_rate(size: int, peak: Peak) -> float:
    """Return the bytes per second at which one thread reads so many bytes again and again."""
    rates, caches = {reading.where: reading.bytes_per_second for reading in peak.reading}, cache_sizes()
    for level in (2, 3):
        if size <= caches.get(level, 0):
            return rates[f"L{level}"]
    return rates["memory"]
