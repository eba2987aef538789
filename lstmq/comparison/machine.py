"""The machine and the versions that a measurement was made with: :func:`describe_machine`."""

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from lstmq.quantization import default_engine
from lstmq.quantization.native import selected_isa

# The names are Linux's. Of each kind of processor, the best comes first.
INSTRUCTION_SETS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2", "i8mm", "asimddp")

APPLE_FEATURES = {"hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.arm.FEAT_DotProd": "asimddp"}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A processor, and the software that computes on it.

    Attributes:
        cpu: the name of the processor.
        isa: its widest instruction set for integers, one of :data:`INSTRUCTION_SETS` where one is known.
        torch: the version of torch.
        engine: torch's int8 engine.
        kernels: the instruction set of our own kernels.
        threads: number of threads that torch uses.
        python: the version of Python.
        system: operating system and architecture.
    """

    cpu: str
    isa: str
    torch: str
    engine: str
    kernels: str
    threads: int
    python: str
    system: str


def describe_machine(engine: str | None = None) -> Machine:
    """Return the machine that this process runs on.

    Args:
        engine: the int8 engine, if it is not torch's default.
    """
    cpu, isa = _cpu()
    return Machine(
        cpu=cpu,
        isa=isa,
        torch=str(torch.__version__),  # a subclass of str
        engine=engine or default_engine(),
        kernels=selected_isa(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
    )


def _cpu() -> tuple[str, str]:
    """Return the name of the processor, and the instruction set that decides how fast int8 is on it."""
    fallback = platform.processor() or platform.machine(), torch.backends.cpu.get_cpu_capability().lower()
    if platform.system() == "Darwin":
        return _apple_cpu(*fallback)
    facts, flags = _cpuinfo(), cpu_flags()
    isa = next((name for name in INSTRUCTION_SETS if name in flags), fallback[1])
    part = "".join(f" {facts[key]}" for key in ("CPU implementer", "CPU part") if key in facts)  # ARM has no name
    return facts.get("model name", f"{fallback[0]}{part}"), isa


def _apple_cpu(name: str, isa: str) -> tuple[str, str]:
    """Return what macOS says of the processor, or else ``name`` and ``isa``, which are the same for all of Apple's."""
    keys = ("machdep.cpu.brand_string", *APPLE_FEATURES)
    # An unknown key is an error, but the others are printed.
    output = subprocess.run(["/usr/sbin/sysctl", *keys], capture_output=True, text=True, check=False).stdout  # noqa: S603 - constants
    facts = {key: value.strip() for key, _, value in (line.partition(":") for line in output.splitlines())}
    isa = next((name for key, name in APPLE_FEATURES.items() if facts.get(key) == "1"), isa)
    return facts.get(keys[0], name), isa


def cpu_flags() -> list[str]:
    """Return what Linux lists as the features of the processor; empty elsewhere."""
    facts = _cpuinfo()
    return facts.get("flags", facts.get("Features", "")).split()  # x86 has the first, ARM the second


def _cpuinfo() -> dict[str, str]:
    """Return what Linux says about the last processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
