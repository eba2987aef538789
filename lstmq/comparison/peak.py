"""How fast this processor can be at most, whatever a kernel does: :func:`probe_peak`."""

import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lstmq.comparison.rates import measure_rates
from lstmq.quantization.native import available_isas, loops

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
KIB, MIB = 2**10, 2**20
USUAL_CACHES = {2: MIB, 3: 32 * MIB}  # where the system does not say
WEIGHTS = 11 * MIB  # what the tutorial's model reads for a word
PROBE_SECONDS = 0.4


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How fast one thread reads a block of memory again and again.

    Attributes:
        where: where a block of this size usually is: ``L2``, ``L3`` or ``memory``. Virtual machines may report other
            caches than they have.
        size: bytes.
        bytes_per_second: the median.
    """

    where: str
    size: int
    bytes_per_second: float

    def __str__(self) -> str:
        size = f"{self.size / MIB:.0f} MiB" if self.size >= MIB else f"{self.size / KIB:.0f} KiB"
        return f"{self.bytes_per_second / 1e9:.1f} GB/s from {self.where} ({size})"


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The limits of one thread of a processor, as a loop that does nothing else reaches them.

    Attributes:
        isa: the instruction set of the loops: that of the fastest kernel that can run here.
        products_per_second: products of int8 integers whose operands are all in registers.
        reading: reading from each cache and from memory.
    """

    isa: str
    products_per_second: float
    reading: tuple[Reading, ...]

    def __str__(self) -> str:
        products = f"{self.products_per_second / 1e9:.1f} int8 products/ns ({self.isa})"
        return f"{products}, reads {', '.join(map(str, self.reading))}"


def probe_peak(seconds: float = PROBE_SECONDS) -> Peak | None:
    """Return the peak of this processor, measured in about this time; ``None`` where no kernels were built.

    Example:
        >>> from lstmq.comparison import probe_peak
        >>> peak = probe_peak(0.05)
        >>> peak is None or peak.products_per_second > 1e8
        True
    """
    start = time.perf_counter()
    isa = fastest_kernel()
    if isa is None:
        return None
    blocks = memory_blocks()
    works = {"products": partial(loops.multiply, isa)}
    works |= {where: partial(loops.read, isa, memory) for where, memory in blocks.items()}
    at_most = seconds - (time.perf_counter() - start)
    rates = measure_rates(works, time.thread_time, seconds=seconds / 80, rounds=9, at_most=0.7 * at_most, at_least=3)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return Peak(
        isa=isa,
        products_per_second=medians["products"],
        reading=tuple(
            Reading(where=where, size=memory.numel(), bytes_per_second=medians[where])
            for where, memory in blocks.items()
        ),
    )


def fastest_kernel() -> str | None:
    """Return the instruction set of the fastest kernel that can run here, whichever is selected; ``None`` if none."""
    fastest = available_isas()[-1]
    return fastest if fastest != "reference" and loops.multiply(fastest, 1) else None


def memory_blocks() -> dict[str, Tensor]:
    """Return blocks to read, uint8, by where they should lie: half of L2, half of L3, and beyond it."""
    caches = USUAL_CACHES | cache_sizes()
    sizes = {"L2": caches[2] // 2, "L3": min(caches[3] // 2, WEIGHTS)}
    sizes["memory"] = min(max(2 * caches[3], 64 * MIB), 128 * MIB)
    # Written, because the system has one page for all memory that was never written.
    return {where: torch.full((size,), 1, dtype=torch.uint8, device="cpu") for where, size in sizes.items()}


def cache_sizes(folder: Path = CACHES) -> dict[int, int]:
    """Return the bytes of each level of caches for data, as Linux reports them; empty elsewhere."""
    sizes = {}
    for cache in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((cache / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                sizes[int(level)] = int(size.rstrip("KMG")) * {"K": KIB, "M": MIB, "G": 2**30}.get(size[-1], 1)
        except (OSError, ValueError, IndexError):  # a file that a container hides, or an unknown format
            continue
    return sizes
