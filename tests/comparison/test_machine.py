"""Laws of the machine's description: two processors that differ in speed are told apart, on x86 and on ARM."""

from pathlib import Path

import pytest

from lstmq.comparison.machine import INSTRUCTION_SETS, describe_machine

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
    """Give ``describe(text)``: the description of a machine whose ``/proc/cpuinfo`` this is."""

    def describe(text):
        def read_text(_, **options):
            if text is None:
                raise FileNotFoundError
            return text

        monkeypatch.setattr(Path, "read_text", read_text)
        return describe_machine()

    return describe


@pytest.mark.parametrize("isa", [*INSTRUCTION_SETS])
def test_the_best_instructions_there_are_are_told(describe, isa):
    flags = " ".join(INSTRUCTION_SETS[INSTRUCTION_SETS.index(isa) :])
    for text in (X86.format(flags=flags), ARM.format(flags=flags, part="0xd0c")):
        assert describe(text)["isa"] == isa


def test_a_processor_is_told_by_its_name_or_its_part(describe):
    assert describe(X86.format(flags="avx2"))["cpu"] == "A Processor 9000"
    one, other = (describe(ARM.format(flags="i8mm", part=part))["cpu"] for part in ("0xd0c", "0xd40"))
    assert one.endswith(" 0x41 0xd0c")
    assert other.endswith(" 0x41 0xd40")


def test_a_machine_that_does_not_say_is_described_as_torch_sees_it(describe):
    for text in (None, "", "nonsense"):
        told = describe(text)
        assert told["cpu"]
        assert told["isa"]


def test_the_engine_is_the_one_asked_for():
    assert describe_machine("qnnpack")["engine"] == "qnnpack"
    assert describe_machine()["engine"] != ""
