"""Laws of what compilers make of the kernels: the products are in the innermost loops, sums stay in registers, nothing
is contracted, and everything also compiles for arm64, on Linux and on macOS.

``tox -e arm64`` and ``tox -e cross`` set variables that name the compilers for arm64.
"""

import os
import platform
import re
import shutil
import signal
import struct
import subprocess

import pytest
import torch

from kernel_driver import Driver
from kernel_objects import compile_module, compile_object, disassemble, loops_with
from lstmq.quantization.native.library import KERNEL_ISAS, PORTABLE

pytestmark = pytest.mark.slow

# The instruction that multiplies in each kernel, how many loops hold it at least, one for each size of a tile, and how
# many of them may use the stack.
X86_64 = {
    "avx2": ("vpmaddwd", 6, 0),
    "avx_vnni": ("vpdpbusd", 6, 0),
    "avx512_vnni": ("vpdpbusd", 6, 0),
    "amx_int8": ("tdpbssd", 1, 0),
}
ARM64 = {"neon_dotprod": ("sdot", 6, 0), "neon_i8mm": ("smmla", 3, 0)}
CONTRACTED = re.compile(r"(fn?m(add|sub)|fml[as]|vfn?m(add|sub)\d+[ps]s)\b")
ARM64_COMPILER = os.environ.get("ARM64_COMPILER", "").split()
CROSS_COMPILER = os.environ.get("CROSS_COMPILER", "").split()
NATIVE_COMPILERS = [[name] for name in ("gcc", "clang") if shutil.which(name) and platform.machine() == "x86_64"]
ARM64_COMPILERS = [ARM64_COMPILER] if ARM64_COMPILER else []
if CROSS_COMPILER:
    ARM64_COMPILERS += [[*CROSS_COMPILER, "-target", system] for system in ("aarch64-linux-gnu", "aarch64-macos")]
BUILDS = [(compiler, X86_64) for compiler in NATIVE_COMPILERS] + [(compiler, ARM64) for compiler in ARM64_COMPILERS]
KERNELS = [
    pytest.param(compiler, source, *expected, id=f"{system} {source} by {' '.join(compiler)}")
    for compiler, sources in BUILDS
    for system in ["x86-64" if sources is X86_64 else "arm64"]
    for source, expected in sources.items()
]
needs_objdump = pytest.mark.skipif(
    not (shutil.which("llvm-objdump") or ARM64_COMPILERS), reason="needs llvm-objdump, from the package llvm"
)
needs_cross_compiler = pytest.mark.skipif(not CROSS_COMPILER, reason="needs a cross compiler: run tox -e cross")


@needs_objdump
@pytest.mark.parametrize(("compiler", "source", "instruction", "tiles", "spills"), KERNELS)
def test_innermost_loops_multiply_and_keep_their_sums_in_registers(
    compiler, source, instruction, tiles, spills, tmp_path
):
    path = compile_object(compiler, source, tmp_path)
    loops, on_stack = loops_with(path, instruction)
    assert len(loops) >= tiles
    assert len(on_stack) <= spills
    texts = [text for instructions in disassemble(path).values() for _, text in instructions]
    assert len(texts) > 500
    assert not [text for text in texts if CONTRACTED.match(text)]


@needs_objdump
@pytest.mark.skipif(not BUILDS, reason="needs a compiler")
def test_contracted_operations_are_found(tmp_path):
    compiler, sources = BUILDS[-1]
    more = ["-mfma"] if sources is X86_64 else []
    path = compile_object(compiler, "portable", tmp_path, *more, "-ffp-contract=fast")
    texts = [text for instructions in disassemble(path).values() for _, text in instructions]
    assert [text for text in texts if CONTRACTED.match(text)]


# The headers of a shared library: where the processor's number is, and that of arm64.
HEADERS = {
    "aarch64-linux-gnu": (b"\x7fELF", "<H", 18, 183),
    "aarch64-macos": (b"\xcf\xfa\xed\xfe", "<I", 4, 0x0100000C),
}


@needs_cross_compiler
@pytest.mark.parametrize(("system", "needs"), [("aarch64-linux-gnu", "getauxval"), ("aarch64-macos", "_sysctlbyname")])
def test_module_compiles_for_another_system(system, needs, tmp_path):
    """What is missing there, such as the functions of Python, is found when the module is loaded."""
    linking = ["-Wl,-undefined,dynamic_lookup"] if system.endswith("macos") else []
    path = compile_module([*CROSS_COMPILER, "-target", system, *linking], tmp_path / "module.so")
    magic, kind, place, arm64 = HEADERS[system]
    content = path.read_bytes()
    assert content.startswith(magic)
    assert struct.unpack_from(kind, content, place) == (arm64,)
    command = ["llvm-nm", "--extern-only", "--dynamic" if system.endswith("gnu") else "--no-sort", path]
    symbols = {tuple(line.split()[-2:]) for line in subprocess.check_output(command, text=True).splitlines()}
    exported = {name.lstrip("_") for kind, name in symbols if kind == "T"}
    assert {"PyInit__kernels", "lstmq_can_run", "lstmq_read_window", "lstmq_run_linear", "lstmq_run_recurrent"} <= {
        "PyInit__kernels",
        *exported,
    }
    assert ("U", needs) in {(kind, name.partition("@")[0]) for kind, name in symbols}


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ("cortex-a53", {PORTABLE}),
        ("neoverse-n1", {PORTABLE, "neon_dotprod"}),
        ("max", {PORTABLE, "neon_dotprod", "neon_i8mm"}),
    ],
)
def test_arm64_kernels_run_where_linux_says_that_the_processor_has_them(arm64_driver, processor, expected):
    x, c, h = torch.zeros(4, 1), torch.zeros(1), torch.zeros(1)
    with Driver([*os.environ["ARM64_EMULATOR"].split(), "-cpu", processor, arm64_driver]) as driver:
        assert {isa for isa in KERNEL_ISAS if driver.run_stage("lstm_step", isa, x, 1, c, h) == 0} == expected


def test_arm64_driver_ends_when_a_kernel_writes_behind_an_array(arm64_driver):
    with (
        Driver([*os.environ["ARM64_EMULATOR"].split(), "-cpu", "max", arm64_driver]) as driver,
        pytest.raises(BrokenPipeError, match=f"the driver ended with status {-signal.SIGSEGV}"),
    ):
        driver.run_stage("lstm_step", PORTABLE, torch.zeros(4, 9), 9, torch.zeros(8), torch.zeros(9))
