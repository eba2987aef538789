"""The tables of the comparison. :data:`TABLES` has a function for each, which returns a :class:`Table`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import models
import torch
from engines import ENGINES, Run
from rows import LABELS, WINDOW, Row, floor, module_rows, step_rows, thread_row, width_rows
from timing import make_runs, measure
from torch import Tensor, nn

from lstmq.comparison import Peak, probe_peak

OURS, BASELINE = "int8-native", "torch.ao int8"
IN_TORCH = ("float32", BASELINE, OURS)
MS, US = 1e-3, 1e-6  # seconds


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that is measured row by row.

    Attributes:
        title: what it compares.
        note: what else to know.
        header: names of the columns.
        rows: for each row, its name, and a function that measures it and returns the other cells.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Mapping[str, Callable[[], Sequence[str]]]


def modules_table(rounds: int) -> Table:
    peak = probe_peak(2.0)
    if peak is None:
        raise ValueError("expected kernels, found none: reinstall lstmq where there is a C compiler")
    return Table(
        title="Recurrent modules",
        note=f"Milliseconds. The floor is for {peak}.",
        header=["", "floor", *ENGINES, f"{OURS} / floor", f"best other int8 / {OURS}"],
        rows={row.name: partial(compare_engines, row, peak, rounds) for row in module_rows()},
    )


def compare_engines(row: Row, peak: Peak, rounds: int) -> list[str]:
    found, least = measure(make_runs(row, [*ENGINES]), rounds), floor(row.module, row.arguments[0], peak)
    others = [other.over(found[OURS]) for name, other in found.items() if "int8" in name and name != OURS]
    times = [found[name].show(MS) if name in found else "none" for name in ENGINES]
    return [f"{least / MS:.3g}", *times, f"{found[OURS].median / least:.2f}", f"{min(others):.2f}"]


def widths_table(rounds: int) -> Table:
    note = f"Milliseconds for a window of {WINDOW} steps of one sequence, and {LABELS} labels."
    return torch_table("LSTM layer and small decoder", note, width_rows(), rounds)


def steps_table(rounds: int) -> Table:
    return torch_table("Steps of a cell", "Milliseconds for a step of one column.", step_rows(), rounds)


def torch_table(title: str, note: str, rows: Sequence[Row], rounds: int) -> Table:
    header = ["", *IN_TORCH, f"{BASELINE} / {OURS}", f"float32 / {OURS}"]
    return Table(
        title=title, note=note, header=header, rows={row.name: partial(compare_in_torch, row, rounds) for row in rows}
    )


def compare_in_torch(row: Row, rounds: int) -> list[str]:
    found = measure(make_runs(row, IN_TORCH), rounds)
    quotients = [f"{found[name].over(found[OURS]):.2f}" for name in (BASELINE, "float32")]
    return [*(found[name].show(MS) for name in IN_TORCH), *quotients]


def overhead_table(rounds: int) -> Table:
    return Table(
        title="Beside the arithmetic",
        note="Microseconds for a step of an LSTMCell of width 4, which has nearly no arithmetic.",
        header=["", *IN_TORCH, "a module that copies two tensors"],
        rows={"one call": partial(time_overhead, rounds)},
    )


def time_overhead(rounds: int) -> list[str]:
    cell, x, hx = nn.LSTMCell(4, 4), torch.randn(1, 4), (torch.randn(1, 4), torch.randn(1, 4))
    runs = make_runs(Row(name="LSTMCell, width 4", module=cell, arguments=(x, hx)), IN_TORCH)
    found = measure({**runs, "copies": partial(TwoCopies(), x, hx)}, 3 * rounds)
    return [timed.show(US) for timed in found.values()]


class TwoCopies(nn.Module):
    """Does what any module that returns two new tensors does, and nothing else."""

    def forward(self, _x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = hx
        return h.clone(), c.clone()


def threads_table(rounds: int) -> Table:
    row = thread_row()
    return Table(
        title="Two threads",
        note=f"Milliseconds of wall time, {OURS}. Other work of the machine counts too.",
        header=["", "one thread", "two threads", "one / two"],
        rows={row.name: partial(compare_threads, row, rounds)},
    )


def compare_threads(row: Row, rounds: int) -> list[str]:
    run = make_runs(row, IN_TORCH)[OURS]
    runs = {str(threads): partial(run_with_threads, threads, run) for threads in (1, 2)}
    one, two = measure(runs, 3 * rounds, time.perf_counter).values()
    return [one.show(MS), two.show(MS), f"{one.over(two):.2f}"]


def run_with_threads(threads: int, run: Run) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run()
    finally:
        torch.set_num_threads(before)


def models_table(rounds: int) -> Table:
    return Table(
        title="Trained models",
        note="Size, loss, and speed over float32's. `docs/int8/models.py` trains them. ONNX Runtime has no int8 GRU.",
        header=["", *models.ENGINES],
        rows={name: partial(models.describe_model, function, rounds) for name, function in models.MODELS.items()},
    )


TABLES: Mapping[str, Callable[[int], Table]] = {
    "modules": modules_table,
    "widths": widths_table,
    "steps": steps_table,
    "overhead": overhead_table,
    "threads": threads_table,
    "models": models_table,
}
