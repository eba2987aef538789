"""Finds the compiled kernels of ``csrc/`` and selects the instruction set that computes.

The kernels are a shared library that does not use torch, so one build serves every version of torch. Where the library
was not built, ``reference.py`` computes.
"""

import ctypes
import os
from ctypes import c_int, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec

from lstmq.quantization.native.known_answers import gives_known_answers

REFERENCE, PORTABLE = "reference", "portable"
# The indices of lstmq_kernel in csrc/kernels.h. Each kernel is faster than those before it that can run where it can.
KERNEL_ISAS = (PORTABLE, "avx2", "avx_vnni", "avx512_vnni", "amx_int8", "neon_dotprod", "neon_i8mm")
ISA_VARIABLE = "LSTMQ_ISA"
NO_MEMORY = -2  # what the functions of csrc/ return if there is none


@cache
def load_library() -> ctypes.CDLL | None:
    """Return the installed kernels, or ``None`` if they were not built."""
    spec = find_spec("lstmq.quantization.native._kernels")
    return open_library(spec.origin) if spec and spec.origin else None


def open_library(path: str) -> ctypes.CDLL:
    """Return the kernels in a shared library."""
    library = ctypes.CDLL(path)
    library.lstmq_read_window.argtypes = [c_void_p, c_int, c_void_p]
    library.lstmq_run_recurrent.argtypes = [
        *(c_void_p, c_int, c_int64, c_int64, c_int64, c_void_p, c_int64),
        *(c_void_p, c_void_p, c_void_p, c_void_p),
    ]
    library.lstmq_run_linear.argtypes = [c_void_p, c_int, c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p]
    return library


def available_isas() -> list[str]:
    """Return what can compute here, the slowest first: the reference, and the kernels that this processor can run.

    A kernel that does not give the known answers is left out, with a warning.
    """
    return [REFERENCE, *_kernels_of(load_library())]


@cache
def _kernels_of(library: ctypes.CDLL | None) -> list[str]:
    """Return the kernels that this processor can run, and that give the known answers here."""
    runnable = [(i, isa) for i, isa in enumerate(KERNEL_ISAS) if library and library.lstmq_can_run(i)]
    return [isa for i, isa in runnable if library and gives_known_answers(library, i, isa)]


def find_kernel(isa: str) -> tuple[ctypes.CDLL, int]:
    """Return the installed kernels, and the index of one of them.

    Raises:
        ValueError: if it is not available here.
    """
    kernels, available = load_library(), available_isas()[1:]
    if kernels is None or isa not in available:
        raise ValueError(f"expected one of {', '.join(available) or 'no kernels'}, found {isa!r}")
    return kernels, KERNEL_ISAS.index(isa)


def missing_kernels() -> str:
    """Return what int8-native lacks here to be fast; empty if nothing."""
    if load_library() is None:
        return "its compiled kernels: reinstall lstmq where there is a C compiler"
    if available_isas()[-1] == PORTABLE:
        return "a kernel for this processor: the portable C kernel is slower than float32"
    return ""


def selected_isa() -> str:
    """Return what computes: the instruction set that ``LSTMQ_ISA`` names, or else the fastest one available.

    Raises:
        ValueError: if ``LSTMQ_ISA`` names something that is not available here.
    """
    available = available_isas()
    name = os.environ.get(ISA_VARIABLE, available[-1])
    if name not in available:
        hint = "" if load_library() else f"; int8-native lacks {missing_kernels()}"
        raise ValueError(f"{ISA_VARIABLE}: expected one of {', '.join(available)}, found {name!r}{hint}")
    return name
