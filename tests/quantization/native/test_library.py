"""Laws of the selection: the fastest kernel computes, or the one that ``LSTMQ_ISA`` names, or else nothing does."""

import sys
from pathlib import Path

import pytest

from lstmq import batchify, evaluate, load_workload, quantize
from lstmq.cli.compare import provenance
from lstmq.comparison.machine import describe_machine
from lstmq.quantization.native import library
from lstmq.quantization.native.library import ISA_VARIABLE, available_isas, load_library, selected_isa
from lstmq.quantization.schemes import select_schemes
from strategies import random_ids

needs_kernels = pytest.mark.skipif(load_library() is None, reason="the kernels were not built")


@pytest.fixture
def without_kernels(monkeypatch):
    """An installation where no C compiler was available."""
    load_library.cache_clear()
    monkeypatch.setitem(sys.modules, "lstmq.quantization.native._kernels", None)
    monkeypatch.delenv(ISA_VARIABLE, raising=False)
    yield
    load_library.cache_clear()


@needs_kernels
def test_selected_isa_is_the_fastest_or_the_one_the_variable_names(monkeypatch):
    monkeypatch.delenv(ISA_VARIABLE, raising=False)
    assert selected_isa() == available_isas()[-1]
    assert available_isas()[:2] == ["reference", "portable"]
    for name in available_isas():
        monkeypatch.setenv(ISA_VARIABLE, name)
        assert selected_isa() == name


@needs_kernels
@pytest.mark.parametrize("name", ["", "sse9"])
def test_selected_isa_refuses_names_that_are_not_available(monkeypatch, name):
    monkeypatch.setenv(ISA_VARIABLE, name)
    with pytest.raises(ValueError, match=f"LSTMQ_ISA: expected one of reference, portable.*, found '{name}'$"):
        selected_isa()


@needs_kernels
def test_available_isas_are_those_that_linux_lists_for_the_processor():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        pytest.skip("needs Linux")
    flags, available = set(cpuinfo.read_text(encoding="utf-8").split()), available_isas()
    assert ("avx2" in available) == ("avx2" in flags)
    assert ("avx_vnni" in available) == ("avx_vnni" in flags)
    assert ("avx512_vnni" in available) == ("avx512_vnni" in flags and "avx512dq" in flags)
    assert ("amx_int8" in available) <= ("amx_int8" in flags)
    assert ("neon_dotprod" in available) == ("asimddp" in flags)
    assert ("neon_i8mm" in available) == ("i8mm" in flags)


@needs_kernels
def test_gate_skips_int8_native_by_default_where_only_portable_c_runs(model, monkeypatch):
    monkeypatch.setattr(library, "available_isas", lambda: ["reference", "portable"])
    reason = "a kernel for this processor: the portable C kernel is slower than float32"
    assert select_schemes([], model)[1]["int8-native"] == reason
    assert select_schemes(["int8-native"], model) == (("int8-native",), {})


def test_reference_computes_and_is_named_where_kernels_were_not_built(model, without_kernels):
    assert available_isas() == ["reference"]
    source = batchify(random_ids(30, 60, 0), 1)
    loss = evaluate(quantize(model, "int8-native"), source, 25)
    assert loss == pytest.approx(evaluate(model, source, 25), abs=0.02)
    machine = describe_machine()
    assert machine.kernels == "reference"
    assert "int8-native: kernels reference" in [*provenance(load_workload(tokens=200), machine, ["int8-native"])]


def test_gate_skips_int8_native_by_default_where_kernels_were_not_built(model, without_kernels):
    reason = "its compiled kernels: reinstall lstmq where there is a C compiler"
    assert select_schemes([], model)[1]["int8-native"] == reason
    assert select_schemes(["int8-native"], model) == (("int8-native",), {})


def test_selected_isa_says_what_is_missing_where_kernels_were_not_built(without_kernels, monkeypatch):
    monkeypatch.setenv(ISA_VARIABLE, "avx2")
    with pytest.raises(ValueError, match="expected one of reference, found 'avx2'; int8-native lacks its compiled"):
        selected_isa()
