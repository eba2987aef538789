"""The loops of ``csrc/peak.c``, which do nothing but multiply or read. They are much faster than any model.

Each function takes how often to run and returns how much it did, for :func:`lstmq.comparison.measure_rates`.
"""

from ctypes import CDLL, c_char_p, c_int, c_int64, c_void_p

from torch import Tensor

from lstmq.quantization.native.library import load_library

ABSENT_BYTE = 0  # memory to read must not hold it


def multiply(isa: str, rounds: int) -> int:
    """Multiply int8 numbers in registers. Return the number of products, or 0 if nothing is known of the kernel.

    Args:
        isa: one of :func:`~lstmq.quantization.native.library.available_isas`.
        rounds: how often.
    """
    return int(_library().lstmq_peak_products(isa.encode(), max(rounds, 1)))


def multiply_cached(isa: str, rounds: int) -> int:
    """Multiply int8 numbers that are in the nearest cache. It must be as fast as :func:`multiply`."""
    return int(_library().lstmq_check_products(isa.encode(), max(rounds, 1)))


def read(isa: str, memory: Tensor, times: int) -> int:
    """Read memory. Return the number of bytes.

    Args:
        isa: as for :func:`multiply`.
        memory: uint8, contiguous, at least 256 bytes.
        times: how often.
    """
    return int(_library().lstmq_read_memory(isa.encode(), memory.data_ptr(), memory.numel(), times))


def search(memory: Tensor, times: int) -> int:
    """Read memory with C's ``memchr``, for :data:`ABSENT_BYTE`. It should be about as fast as :func:`read`."""
    return int(_library().lstmq_search_memory(memory.data_ptr(), ABSENT_BYTE, memory.numel(), times))


def _library() -> CDLL:
    library = load_library()
    if library is None:
        raise ValueError("expected compiled kernels, found none: reinstall lstmq where there is a C compiler")
    signatures = {
        "lstmq_peak_products": [c_char_p, c_int64],
        "lstmq_check_products": [c_char_p, c_int64],
        "lstmq_read_memory": [c_char_p, c_void_p, c_int64, c_int64],
        "lstmq_search_memory": [c_void_p, c_int, c_int64, c_int64],
    }
    for name, types in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, c_int64
    return library
