"""A diagnosis as text for a bug report: :func:`diagnosis_lines`."""

from collections.abc import Iterator

from lstmq.doctor import Diagnosis, Kernel, Kernels, System
from lstmq.escaping import show
from lstmq.report.tables import text_table

HEADERS = ("kernel", "answers", "products/ns", "peak", "share", "again", "us/token", "us/word", "of reading")
MIB = 2**20


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    """Return a diagnosis as lines. Control characters are shown as escapes."""
    lines = [*_system_lines(diagnosis.system), "", *_kernel_lines(diagnosis.kernels), ""]
    lines += [f"fault: {fault}; please report all of this" for fault in diagnosis.faults]
    lines += [f"note: {note}" for note in diagnosis.notes]
    return [*map(show, lines if diagnosis.faults or diagnosis.notes else [*lines, "no faults found"])]


def _system_lines(system: System) -> Iterator[str]:
    machine, limits = system.machine, system.limits
    packages = ", ".join(f"{name} {version}" for name, version in system.packages.items() if version)
    yield f"{machine.system}{f', {system.libc}' * bool(system.libc)}, Python {machine.python}: {packages}"
    virtual = ", in a virtual machine" if system.is_virtual else ""
    yield f"processor: {machine.cpu}, {', '.join(system.instruction_sets) or machine.isa}{virtual}"
    if caches := ", ".join(f"L{level} {size / 2**10:,.0f} KiB" for level, size in sorted(system.caches.items())):
        yield f"caches, as the system reports them: {caches}"
    yield (
        f"processors: {system.processors}, of which this process may use {system.allowed}; torch uses {system.threads} "
        "threads by default"
    )
    processors = "no limit of processors" if limits.processors is None else f"{limits.processors:g} processors"
    memory = "no limit of memory" if limits.memory is None else f"{limits.memory / MIB:,.0f} MiB of memory"
    yield f"control groups: {processors}, {memory}"
    mkldnn = "with" if system.has_mkldnn else "without"
    yield (
        f"torch: float32 on {system.capability} {mkldnn} mkldnn; int8 engine {machine.engine} of "
        f"{', '.join(system.engines) or 'none'}"
    )
    yield f"int8-native: {machine.kernels}, from {system.kernels_file or 'no library'}"
    for scheme, need in system.missing.items():
        yield f"scheme {scheme} needs {need}"
    for name, value in system.variables.items():
        yield f"{name}={value}"


def _kernel_lines(kernels: Kernels) -> Iterator[str]:
    if kernels.peak is None or kernels.weights_us is None:
        yield "peak: unknown without kernels"
        return
    yield f"peak of one thread: {kernels.peak}"
    again = ", ".join(f"{where} {ratio:.2f}" for where, ratio in kernels.second_reading.items())
    yield f"memchr reads, over that: {again}"
    yield (
        f"the weights of a word, {kernels.weights / 1e6:.1f} MB, are read in {kernels.weights_us:,.0f} us; "
        f"medians of {kernels.rounds} rounds, CPU time"
    )
    yield ""
    yield from text_table(HEADERS, map(_cells, kernels.kernels))
    yield "share: of the peak of its own instructions, in windows of 25, from ids to loss"
    yield "again: products of a second loop, with weights in the nearest cache, over that peak"
    yield "of reading: time that only reading the weights takes, over us/word; the tutorial's shape, one thread"


def _cells(kernel: Kernel) -> list[str]:
    name = kernel.isa + " (selected)" * kernel.is_selected
    if not kernel.runs:
        return [name, kernel.answers or "not here", *[""] * (len(HEADERS) - 2)]

    def cell(number: float | None, form: str, factor: float = 1) -> str:
        return "" if number is None else format(number * factor, form)

    return [
        name,
        kernel.answers,
        cell(kernel.products_per_second, ".1f", 1e-9),
        cell(kernel.peak, ".1f", 1e-9),
        cell(kernel.share, ".0%"),
        cell(kernel.second_loop, ".2f"),
        cell(kernel.us_per_token, ",.1f"),
        cell(kernel.us_per_word, ",.0f"),
        cell(kernel.reading_share, ".0%"),
    ]
