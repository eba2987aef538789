"""Laws of a diagnosis: wrong bits and impossible speeds are faults, and the report has every kernel."""

import json
import os
import re
from dataclasses import asdict, replace

import pytest
import torch

from lstmq.comparison.peak import Peak, Reading
from lstmq.doctor import Diagnosis, Kernel, Kernels, Limits, System
from lstmq.doctor.diagnosis import diagnose, find_faults, find_notes
from lstmq.doctor.kernels import check_answers, measure_kernels, using_isa
from lstmq.quantization.native import available_isas, selected_isa
from lstmq.quantization.native.library import KERNEL_ISAS
from lstmq.quantization.native.model import NativeModel
from lstmq.report.doctor import diagnosis_lines
from runs import MACHINE

KERNEL = Kernel(
    isa="avx2",
    runs=True,
    is_selected=True,
    answers="right",
    peak=9e10,
    second_loop=0.98,
    products_per_second=4.5e10,
    share=0.5,
    us_per_token=253.3,
    us_per_word=400.0,
    reading_share=0.45,
)
KERNELS = Kernels(
    kernels=[KERNEL, Kernel(isa="amx_int8", runs=False)],
    peak=Peak(isa="avx2", products_per_second=9e10, reading=(Reading(where="L2", size=2**19, bytes_per_second=8e10),)),
    second_reading={"L2": 1.01},
    weights=11_400_000,
    weights_us=180.0,
    rounds=9,
)
SYSTEM = System(
    machine=MACHINE,
    instruction_sets=["avx2"],
    is_virtual=True,
    caches={1: 2**15},
    processors=4,
    allowed=4,
    limits=Limits(),
    threads=4,
    engines=["x86"],
    capability="AVX2",
    has_mkldnn=True,
    libc="glibc 2.36",
    kernels_file="_kernels.so",
    packages={"torch": "2.13.0", "onnx": ""},
    missing={"ort-int8": "onnxruntime"},
    variables={"OMP_NUM_THREADS": "4\x1b[31m"},
)
needs_kernels = pytest.mark.skipif(not available_isas()[1:], reason="the kernels were not built")


def with_kernel(**changes):
    return replace(KERNELS, kernels=[replace(KERNEL, **changes)])


# Faults and notes.


def test_machine_without_faults_has_none():
    assert [*find_faults(KERNELS)] == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"answers": "wrong: logits"}, "avx2 computes other bits .* wrong: logits"),
        ({"share": 1.01}, "avx2 is 1.01 times"),
    ],
)
def test_wrong_bits_and_a_kernel_above_the_peak_are_faults(changes, fault):
    (found,) = find_faults(with_kernel(**changes))
    assert re.search(fault, found)


@pytest.mark.parametrize(
    ("system", "kernels", "note"),
    [
        (replace(SYSTEM, allowed=2), KERNELS, "torch uses 4 threads, but this process may use 2 processors"),
        (replace(SYSTEM, limits=Limits(processors=1.5)), KERNELS, "may use 1.5 processors"),
        (SYSTEM, with_kernel(second_loop=0.8), "avx2: a second loop of products is 0.80 times as fast"),
        (SYSTEM, with_kernel(second_loop=1.2), "avx2: a second loop of products is 1.20 times as fast"),
        (SYSTEM, replace(KERNELS, second_reading={"L3": 1.3}), "L3: memchr reads 1.30 times as fast"),
    ],
)
def test_what_makes_models_slow_or_figures_uncertain_is_noted(monkeypatch, system, kernels, note):
    monkeypatch.setattr("lstmq.doctor.diagnosis.missing_kernels", str)
    assert [*find_notes(SYSTEM, KERNELS)] == []
    (found,) = find_notes(system, kernels)
    assert note in found


def test_missing_kernels_are_noted(monkeypatch):
    monkeypatch.setattr("lstmq.doctor.diagnosis.missing_kernels", lambda: "its kernels")
    assert [*find_notes(SYSTEM, KERNELS)] == ["int8-native lacks its kernels"]


# Answers.


@pytest.mark.parametrize("isa", available_isas()[1:])
def test_answers_of_every_kernel_are_right(isa):
    assert check_answers(isa) == "right"


@needs_kernels
@pytest.mark.parametrize("place", ["logits", "state", "loss"])
def test_kernel_with_one_wrong_bit_has_wrong_answers(monkeypatch, place):
    def spoil(compute):
        def spoiled(self, *arguments):
            result, (h, c) = compute(self, *arguments)
            if selected_isa() == "portable":
                changed = {"logits": result, "loss": result, "state": h}[place]
                first = (0,) * changed.dim()
                changed[first] = changed[first] + 1 if place == "loss" else changed[first].nextafter(torch.tensor(9.0))
            return result, (h, c)

        return spoiled

    method = "window_loss" if place == "loss" else "forward"
    monkeypatch.setattr(NativeModel, method, spoil(getattr(NativeModel, method)))
    assert check_answers("portable") == f"wrong: {'hidden state' if place == 'state' else place}"


@needs_kernels
def test_kernel_that_could_run_but_is_left_out_is_a_fault(monkeypatch):
    """int8-native leaves a kernel out if its known answers are wrong."""
    monkeypatch.setattr("lstmq.doctor.kernels.available_isas", lambda: ["reference"])
    kernels = measure_kernels()
    can_run = [kernel.isa for kernel in kernels.kernels if kernel.answers]
    assert can_run == available_isas()[1:]
    assert [fault for fault in find_faults(kernels) if "portable computes other bits" in fault]
    shown = replace(KERNELS, kernels=kernels.kernels)
    lines = diagnosis_lines(Diagnosis(system=SYSTEM, kernels=shown, faults=[], notes=[]))
    assert sum("wrong: left out" in line for line in lines) == len(can_run)


@pytest.mark.parametrize("before", [None, "portable"])
def test_variable_is_as_before_after_a_kernel_was_tried(monkeypatch, before):
    monkeypatch.delenv("LSTMQ_ISA", raising=False)
    if before:
        monkeypatch.setenv("LSTMQ_ISA", before)
    with pytest.raises(RuntimeError), using_isa("reference"):
        assert selected_isa() == "reference"
        raise RuntimeError
    assert os.environ.get("LSTMQ_ISA") == before


# The whole.


@pytest.mark.slow
def test_diagnosis_of_this_machine_has_every_kernel_and_no_wrong_answer():
    threads = torch.get_num_threads()
    diagnosis = diagnose(at_most=0)
    assert torch.get_num_threads() == threads
    assert [kernel.isa for kernel in diagnosis.kernels.kernels] == [*KERNEL_ISAS]
    assert [kernel.isa for kernel in diagnosis.kernels.kernels if kernel.runs] == available_isas()[1:]
    assert all(kernel.answers == "right" for kernel in diagnosis.kernels.kernels if kernel.runs)
    assert diagnosis.kernels.weights == 11_402_752
    assert diagnosis.system.packages["torch"] == torch.__version__
    json.dumps(asdict(diagnosis))


def test_lines_have_the_figures_and_show_control_characters_as_escapes():
    diagnosis = Diagnosis(system=SYSTEM, kernels=KERNELS, faults=["a fault"], notes=["a note"])
    lines = diagnosis_lines(diagnosis)
    text = "\n".join(lines)
    assert "processor: a processor, avx2, in a virtual machine" in lines
    assert "control groups: no limit of processors, no limit of memory" in lines
    assert "scheme ort-int8 needs onnxruntime" in lines
    assert "OMP_NUM_THREADS=4\\x1b[31m" in lines
    assert "torch 2.13.0" in text
    assert "onnx " not in text
    assert "90.0 int8 products/ns (avx2), reads 80.0 GB/s from L2 (512 KiB)" in text
    (row,) = (line for line in lines if line.startswith("avx2"))
    assert row.split() == ["avx2", "(selected)", "right", "45.0", "90.0", "50%", "0.98", "253.3", "400", "45%"]
    assert any(line.split() == ["amx_int8", "not", "here"] for line in lines)
    assert lines[-2:] == ["fault: a fault; please report all of this", "note: a note"]


def test_lines_without_kernels_say_that_the_peak_is_unknown():
    kernels = Kernels(kernels=[Kernel(isa="avx2", runs=False)], second_reading={}, weights=1)
    limited = replace(SYSTEM, limits=Limits(processors=1.5, memory=2**30), caches={})
    lines = diagnosis_lines(Diagnosis(system=limited, kernels=kernels, faults=[], notes=[]))
    assert "peak: unknown without kernels" in lines
    assert "control groups: 1.5 processors, 1,024 MiB of memory" in lines
    assert lines[-1] == "no faults found"
