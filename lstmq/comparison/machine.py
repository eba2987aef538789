"""What a measurement was made on: :func:`describe_machine`."""

import platform
from pathlib import Path

import torch

from lstmq.quantization import default_engine
from lstmq.quantization.native import selected_isa

INSTRUCTION_SETS = (
    "amx_int8",
    "avx512_vnni",
    "avx_vnni",
    "avx2",
    "i8mm",
    "asimddp",
)  # Linux's names, by processor the best first


def describe_machine(engine: str | None = None) -> dict[str, str | int]:
    """Return the CPU, its widest integer instructions, torch, its int8 engine, our kernels' instructions, and so on.

    Args:
        engine: the int8 engine, if it was not torch's own.
    """
    model, isa = _cpu()
    return {
        "cpu": model,
        "isa": isa,
        "torch": torch.__version__,
        "engine": engine or default_engine(),
        "native": selected_isa(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> tuple[str, str]:
    """Return the processor's name, and the instruction set that decides how fast int8 is on it."""
    fallback = platform.processor() or platform.machine(), torch.backends.cpu.get_cpu_capability().lower()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return fallback
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", facts.get("Features", "")).split()  # of x86, of ARM
    isa = next((name for name in INSTRUCTION_SETS if name in flags), fallback[1])
    part = "".join(f" {facts[key]}" for key in ("CPU implementer", "CPU part") if key in facts)  # ARM's have no name
    return facts.get("model name", f"{fallback[0]}{part}"), isa
