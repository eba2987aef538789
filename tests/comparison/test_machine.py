"""Laws of the description of a machine: processors of different speed have different descriptions, on x86 and ARM."""

import platform
import subprocess
from pathlib import Path

import pytest
import torch

from lstmq.comparison.machine import INSTRUCTION_SETS, describe_machine
from lstmq.quantization import default_engine
from lstmq.quantization.native import selected_isa

X86 = """processor\t: 0
model name\t: A Processor 9000
flags\t\t: fpu {flags} sse4_2
"""
ARM = """processor\t: 0
Features\t: fp asimd {flags}
CPU implementer\t: 0x41
CPU part\t: {part}
"""


@pytest.fixture
def describe(monkeypatch):
    """Return a function that describes the machine as if ``/proc/cpuinfo`` held a text; ``None`` for no such file."""

    def describe(text):
        def read_text(_, **options):
            if text is None:
                raise FileNotFoundError
            return text

        monkeypatch.setattr(Path, "read_text", read_text)
        return describe_machine()

    return describe


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_isa_is_the_best_one_of_the_processor(describe, isa):
    flags = " ".join(INSTRUCTION_SETS[INSTRUCTION_SETS.index(isa) :])
    for text in (X86.format(flags=flags), ARM.format(flags=flags, part="0xd0c")):
        assert describe(text).isa == isa


def test_cpu_is_the_name_on_x86_and_the_part_number_on_arm(describe):
    assert describe(X86.format(flags="avx2")).cpu == "A Processor 9000"
    assert describe(ARM.format(flags="i8mm", part="0xd0c")).cpu.endswith(" 0x41 0xd0c")
    assert describe(ARM.format(flags="i8mm", part="0xd40")).cpu.endswith(" 0x41 0xd40")


@pytest.mark.parametrize("text", [None, "", "nonsense"])
def test_machine_without_cpuinfo_is_described_by_torch(describe, text):
    machine = describe(text)
    assert machine.cpu == (platform.processor() or platform.machine())
    assert machine.isa == torch.backends.cpu.get_cpu_capability().lower()


@pytest.mark.parametrize(
    ("features", "isa"), [({"I8MM": 1, "DotProd": 1}, "i8mm"), ({"I8MM": 0, "DotProd": 1}, "asimddp"), ({}, None)]
)
def test_apples_processors_have_the_name_and_the_features_that_macos_tells(monkeypatch, features, isa):
    lines = ["machdep.cpu.brand_string: Apple M2", *(f"hw.optional.arm.FEAT_{k}: {v}" for k, v in features.items())]
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "\n".join(lines))
    )
    machine = describe_machine()
    assert machine.cpu == "Apple M2"
    assert machine.isa == (isa or torch.backends.cpu.get_cpu_capability().lower())


def test_versions_threads_and_engine_are_those_of_this_process():
    machine = describe_machine("qnnpack")
    assert (machine.engine, machine.kernels, machine.threads) == ("qnnpack", selected_isa(), torch.get_num_threads())
    assert (machine.torch, type(machine.torch)) == (torch.__version__, str)
    assert machine.python == platform.python_version()
    assert describe_machine().engine == default_engine()
