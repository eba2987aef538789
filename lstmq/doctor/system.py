"""The processor, the versions and the settings that decide how fast a model is: :func:`describe_system`."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from lstmq.comparison import INSTRUCTION_SETS, Machine, cache_sizes, cpu_flags, describe_machine
from lstmq.doctor.limits import Limits, read_limits
from lstmq.quantization import SCHEMES
from lstmq.quantization.native.library import ISA_VARIABLE

PACKAGES = ("lstmq", "torch", "numpy", "onnxruntime", "onnx", "safetensors", "msgspec", "pytest-benchmark")
VARIABLES = (
    ISA_VARIABLE,
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "KMP_AFFINITY",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "LD_PRELOAD",
)


@dataclass(frozen=True, kw_only=True)
class System:
    """A machine as this process sees it.

    Attributes:
        machine: the processor and the main versions.
        instruction_sets: those of :data:`~lstmq.comparison.INSTRUCTION_SETS` that the system lists, the best first.
        is_virtual: whether the processor says that it is one of a virtual machine.
        caches: bytes of the caches for data, by level, as the system reports them.
        processors: number of processors of the machine.
        allowed: number of them that this process may use.
        limits: what its control groups allow.
        threads: number of threads that torch uses by default.
        engines: torch's engines for int8.
        capability: the instruction set that torch uses for float32.
        has_mkldnn: whether torch uses mkldnn, which is also called oneDNN.
        libc: the C library and its version; empty if unknown.
        kernels_file: the library of our own kernels; empty if they were not built.
        packages: versions by name of the package; empty where it is not installed.
        missing: what the schemes that cannot run here need, by scheme.
        variables: the environment variables that are set and change how fast a model is.
    """

    machine: Machine
    instruction_sets: Sequence[str]
    is_virtual: bool
    caches: dict[int, int]
    processors: int
    allowed: int
    limits: Limits
    threads: int
    engines: Sequence[str]
    capability: str
    has_mkldnn: bool
    libc: str
    kernels_file: str
    packages: dict[str, str]
    missing: dict[str, str]
    variables: dict[str, str]


def describe_system(threads: int) -> System:
    """Return the system of this process.

    Args:
        threads: number of threads that torch uses by default, before it was changed.
    """
    from lstmq.quantization.native.library import load_library

    library, flags, processors = load_library(), cpu_flags(), os.cpu_count() or 1
    missing = {name: scheme.missing() or scheme.slow_without() for name, scheme in SCHEMES.items()}
    return System(
        machine=describe_machine(),
        instruction_sets=[name for name in INSTRUCTION_SETS if name in flags],
        is_virtual="hypervisor" in flags,
        caches=cache_sizes(),
        processors=processors,
        allowed=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else processors,
        limits=read_limits(),
        threads=threads,
        engines=[name for name in torch.backends.quantized.supported_engines if name != "none"],
        capability=torch.backends.cpu.get_cpu_capability(),
        has_mkldnn=bool(torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()),
        libc=" ".join(platform.libc_ver()).strip(),
        kernels_file=Path(library._name).name if library else "",
        packages={name: _version(name) for name in PACKAGES},
        missing={name: need for name, need in missing.items() if need},
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
