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
_ISA_KEY = os.environ.encodekey(ISA_VARIABLE)
NO_MEMORY = -2  # what the functions of csrc/ return if there is none


Kernel = tuple[ctypes.CDLL, int]  # the library, and the index of one of its kernels


@cache
def load_library() -> ctypes.CDLL | None:
    """Return the installed kernels, or ``None`` if they were not built."""
    spec = find_spec("lstmq.quantization.native._kernels")
    return open_library(spec.origin) if spec and spec.origin else None


def open_library(path: str) -> ctypes.CDLL:
    """Return the kernels in a shared library."""
    library = ctypes.CDLL(path)
    library.lstmq_read_window.argtypes = [c_void_p, c_int, c_int64, c_void_p]
    library.lstmq_run_recurrent.argtypes = [
        *(c_void_p, c_int, c_int64, c_int64, c_int64, c_void_p, c_int64),
        *(c_void_p, c_void_p, c_void_p, c_void_p),
    ]
    library.lstmq_run_step.argtypes = [c_void_p, c_void_p, c_void_p, c_void_p]
    library.lstmq_run_linear.argtypes = [c_void_p, c_int, c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p]
    return library


def available_isas() -> list[str]:
    """Return what can compute here, the slowest first: the reference, and the kernels that are available."""
    return [REFERENCE, *filter(is_available, KERNEL_ISAS)]


def is_available(isa: str) -> bool:
    """Return whether a kernel was built, this processor can run it, and it gives the known answers here.

    The first call for a kernel checks its answers, and warns if they are wrong.
    """
    library = load_library()
    return library is not None and isa in KERNEL_ISAS and _is_usable(library, KERNEL_ISAS.index(isa))


@cache
def _is_usable(library: ctypes.CDLL, index: int) -> bool:
    return bool(library.lstmq_can_run(index)) and gives_known_answers(library, index, KERNEL_ISAS[index])


@cache
def _fastest_isa(library: ctypes.CDLL | None) -> str:
    if library is None:
        return REFERENCE
    usable = (isa for index, isa in reversed([*enumerate(KERNEL_ISAS)]) if _is_usable(library, index))
    return next(usable, REFERENCE)


def find_kernel(isa: str) -> Kernel:
    """Return the installed kernels, and the index of one of them.

    Raises:
        ValueError: if it is not available here.
    """
    return _find_kernel(load_library(), isa)


@cache
def _find_kernel(kernels: ctypes.CDLL | None, isa: str) -> Kernel:
    if kernels is None or not is_available(isa):
        available = available_isas()[1:]
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
    name = os.environ.get(ISA_VARIABLE)
    if name is None:
        return _fastest_isa(load_library())
    if name != REFERENCE and not is_available(name):
        hint = "" if load_library() else f"; int8-native lacks {missing_kernels()}"
        raise ValueError(f"{ISA_VARIABLE}: expected one of {', '.join(available_isas())}, found {name!r}{hint}")
    return name


def selected_kernel() -> Kernel | None:
    """Return what :func:`find_kernel` returns for the selected instruction set; or ``None`` for the reference.

    It is always the same object for the same kernel. Errors as for :func:`selected_isa`.
    """
    # Nearly always the variable is not set. `os.environ.get` takes 1 us to find that, and this a tenth of it.
    if _ISA_KEY not in getattr(os.environ, "_data", (_ISA_KEY,)):
        return _fastest_kernel(load_library())
    isa = selected_isa()
    return None if isa == REFERENCE else find_kernel(isa)


@cache
def _fastest_kernel(library: ctypes.CDLL | None) -> Kernel | None:
    isa = _fastest_isa(library)
    return None if isa == REFERENCE else _find_kernel(library, isa)
