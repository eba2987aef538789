"""Laws of the peak: it is known where there are kernels, and its blocks of memory follow the caches."""

import pytest

from lstmq.comparison import peak as peaks
from lstmq.comparison.peak import MIB, Peak, Reading, cache_sizes, memory_blocks, probe_peak
from lstmq.quantization.native import available_isas, loops

needs_kernels = pytest.mark.skipif(not available_isas()[1:], reason="the kernels were not built")


def write_cache(folder, index, **files):
    (folder / f"index{index}").mkdir()
    for name, text in files.items():
        (folder / f"index{index}" / name).write_text(f"{text}\n")


def test_cache_sizes_are_those_of_caches_for_data(tmp_path):
    assert cache_sizes(tmp_path) == {}
    write_cache(tmp_path, 0, type="Data", level=1, size="32K")
    write_cache(tmp_path, 1, type="Instruction", level=1, size="64K")
    write_cache(tmp_path, 2, type="Unified", level=2, size="2M")
    write_cache(tmp_path, 3, type="Unified", level=3, size="")
    write_cache(tmp_path, 4, type="Unified", level=4)
    assert cache_sizes(tmp_path) == {1: 32 * 2**10, 2: 2 * MIB}


@pytest.mark.parametrize(
    ("caches", "sizes"),
    [
        ({}, {"L2": MIB // 2, "L3": 11 * MIB, "memory": 64 * MIB}),
        ({1: 2**15, 2: 2 * MIB, 3: 8 * MIB}, {"L2": MIB, "L3": 4 * MIB, "memory": 64 * MIB}),
        ({2: MIB, 3: 999 * MIB}, {"L2": MIB // 2, "L3": 11 * MIB, "memory": 128 * MIB}),
    ],
)
def test_blocks_are_half_of_each_cache_and_more_than_all_of_them(monkeypatch, caches, sizes):
    monkeypatch.setattr(peaks, "cache_sizes", lambda: caches)
    blocks = memory_blocks()
    assert {where: memory.numel() for where, memory in blocks.items()} == sizes
    assert not any((memory == loops.ABSENT_BYTE).any() for memory in blocks.values())


@needs_kernels
def test_probe_is_of_the_fastest_kernel_whichever_is_selected(monkeypatch):
    monkeypatch.setenv("LSTMQ_ISA", "reference")
    peak = probe_peak(0.01)
    assert peak.isa == available_isas()[-1]
    assert peak.products_per_second > 0
    assert [reading.where for reading in peak.reading] == ["L2", "L3", "memory"]
    assert all(reading.bytes_per_second > 0 for reading in peak.reading)


def test_peak_is_unknown_without_kernels(monkeypatch):
    monkeypatch.setattr(peaks, "available_isas", lambda: ["reference"])
    assert probe_peak(0.01) is None


def test_peak_in_words_has_units():
    reading = (
        Reading(where="L2", size=2**19, bytes_per_second=9e10),
        Reading(where="memory", size=2**26, bytes_per_second=2.5e10),
    )
    peak = Peak(isa="avx2", products_per_second=9.12e10, reading=reading)
    assert str(peak) == (
        "91.2 int8 products/ns (avx2), reads 90.0 GB/s from L2 (512 KiB), 25.0 GB/s from memory (64 MiB)"
    )
