"""Laws of the loops that measure a processor: they do as much as they say. `lstmq doctor` compares their speeds."""

import os
import platform

import pytest
import torch

from lstmq.quantization.native import library, loops

# Products of one round: of the loop in registers, and of the loop on weights in the nearest cache.
IS_X86 = platform.machine() in ("x86_64", "AMD64")
PRODUCTS = {
    "portable": (6 * 8, 2048 // 2) if IS_X86 else (8 * 16, 8 * 16),
    "avx2": (6 * 32, 2048),
    "avx_vnni": (12 * 32, 1920),
    "avx512_vnni": (12 * 64, 2048),
    "amx_int8": (4 * 16 * 16 * 64, 6 * 16 * 16 * 64),
    "neon_dotprod": (16 * 16, 16 * 16),
    "neon_i8mm": (16 * 32, 16 * 32),
}
KERNELS = library.available_isas()[1:]


pytestmark = pytest.mark.skipif(not KERNELS, reason="the kernels were not built")


@pytest.fixture(autouse=True)
def _sanitized(request, monkeypatch):
    """With sanitizers, test the loops that are compiled with them."""
    if os.environ.get("SANITIZE"):
        kernels = request.getfixturevalue("compiled")
        monkeypatch.setattr(loops, "load_library", lambda: kernels)


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("rounds", [1, 7])
def test_loops_multiply_as_often_as_they_say(isa, rounds):
    in_registers, in_cache = PRODUCTS[isa]
    assert loops.multiply(isa, rounds) == in_registers * rounds
    assert loops.multiply_cached(isa, rounds) == in_cache * rounds


@pytest.mark.parametrize("isa", KERNELS)
@pytest.mark.parametrize("size", [256, 1000, 4096])
def test_loops_read_whole_chunks_of_memory(isa, size):
    memory = torch.ones(size, dtype=torch.uint8)
    assert loops.read(isa, memory, 3) == 3 * (size - size % 256)
    assert loops.search(memory, 3) == 3 * size


def test_nothing_is_known_of_other_instruction_sets():
    assert loops.multiply("sse9", 5) == loops.multiply_cached("sse9", 5) == 0
    assert loops.read("sse9", torch.ones(256, dtype=torch.uint8), 1) == 0


def test_loops_without_kernels_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(loops, "load_library", lambda: None)
    with pytest.raises(ValueError, match="expected compiled kernels, found none"):
        loops.multiply("portable", 1)
