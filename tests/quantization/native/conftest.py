"""Fixtures for int8-native: the installed kernels, the same compiled for tests, and emulated ones.

Emulation replaces the intrinsics of AVX-VNNI, AVX512 and AMX by plain C. It tests their arithmetic on processors that
do not have them, but not their speed. Variables select what else is compiled for tests: ``SANITIZE`` holds compiler
flags, ``COMPILER`` a compiler, and ``ARM64_COMPILER`` and ``ARM64_EMULATOR`` what runs the kernels for arm64 here.
"""

import ctypes
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from kernel_driver import Driver
from kernel_objects import SOURCES, package_flags
from lstmq.quantization.native import library

FOLDER = Path(__file__).parent
SANITIZE, COMPILER = os.environ.get("SANITIZE", "").split(), os.environ.get("COMPILER", "")
FLAGS = "-O2 -std=gnu11 -ffp-contract=off -fno-trapping-math -fno-math-errno".split()
FLAGS += "-Wall -Wextra -Werror -Wno-unknown-pragmas".split()
KERNELS = library.available_isas()[1:]
COMPILED = bool(SANITIZE or COMPILER)  # test no installed kernels
SLOW_KERNELS = [pytest.param(isa, marks=pytest.mark.slow) for isa in KERNELS] if COMPILED else KERNELS
EMULATED = [pytest.param(f"emulated {isa}", marks=pytest.mark.slow) for isa in ("avx_vnni", "avx512_vnni", "amx_int8")]
# The compiler's command and the emulator's. `tox -e arm64` sets them.
ARM64_COMPILER, ARM64_EMULATOR = (os.environ.get(name, "").split() for name in ("ARM64_COMPILER", "ARM64_EMULATOR"))
ARM64 = [f"arm64 {isa}" for isa in (library.PORTABLE, "neon_dotprod", "neon_i8mm")] if ARM64_COMPILER else []
assert KERNELS or not COMPILED, "nothing to check: the kernels were not built"


def compile_kernels(folder, *flags, sources=SOURCES):
    """Compile ``csrc/``, or a copy of it, and ``stages.c`` to a library, and load it."""
    compiler = COMPILER or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    path = compile_c([compiler], ["-fPIC", "-shared", *SANITIZE, *flags], folder / "kernels.so", folder=sources)
    return library.open_library(str(path))


def compile_c(compiler, flags, path, *sources, folder=SOURCES):
    """Compile ``csrc/``, ``stages.c`` and more sources to a file, and return it. Every warning is an error."""
    sources = [*(path for path in sorted(folder.glob("*.c")) if path.name != "module.c"), *sources]
    command = [*compiler, *FLAGS, *flags, f"-I{folder}", "-o", path]
    subprocess.run([*command, *sources, FOLDER / "stages.c", "-lm"], check=True)
    return path


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The kernels, compiled together with ``stages.c``."""
    return compile_kernels(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def compile_changed(tmp_path):
    """A function that compiles the kernels after changes: in a file of ``csrc/``, a text becomes another."""

    def compile_copy(changes, *flags):
        folder = shutil.copytree(SOURCES, tmp_path / "csrc")
        for file, old, new in changes:
            text = (folder / file).read_text(encoding="utf-8")
            assert text.count(old) == 1
            (folder / file).write_text(text.replace(old, new), encoding="utf-8")
        return compile_kernels(tmp_path, *flags, sources=folder)

    return compile_copy


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    """The kernels, compiled with emulated intrinsics."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("intrinsics are emulated on x86-64 only")
    return compile_kernels(tmp_path_factory.mktemp("emulated"), f'-DLSTMQ_EMULATE="{FOLDER / "emulated.h"}"')


@pytest.fixture(scope="session")
def arm64_driver(tmp_path_factory):
    """The program ``driver.c`` with the kernels, compiled for arm64."""
    if not ARM64_COMPILER:
        pytest.skip("needs a compiler for arm64: run tox -e arm64")
    program = tmp_path_factory.mktemp("arm64") / "driver"
    return compile_c(ARM64_COMPILER, [*package_flags(), "-static"], program, FOLDER / "driver.c")


@pytest.fixture(scope="session")
def arm64(arm64_driver):
    """The kernels for arm64, in an emulated processor that has all its instruction sets."""
    with Driver([*ARM64_EMULATOR, "-cpu", "max", arm64_driver]) as driver:
        yield driver


@pytest.fixture(params=[*SLOW_KERNELS, *EMULATED])
def isa(request, monkeypatch):
    """The name of a kernel that is selected for all models: each one that runs here, and the emulated ones."""
    name = request.param.removeprefix("emulated ")
    if name != request.param:
        kernels = request.getfixturevalue("emulated")
    else:
        kernels = request.getfixturevalue("compiled") if COMPILED else library.load_library()
    monkeypatch.setattr(library, "load_library", lambda: kernels)
    monkeypatch.setenv(library.ISA_VARIABLE, name)
    return name


@pytest.fixture(params=[*KERNELS, *EMULATED, *ARM64])
def run_stage(request):
    """A function that runs a stage of ``stages.c`` with one kernel: its name, then its numbers and tensors."""
    where, _, isa = request.param.rpartition(" ")
    if where == "arm64":
        driver = request.getfixturevalue("arm64")

        def run(name, *arguments):
            assert driver.run_stage(name, isa, *arguments) == 0

        return run
    kernels = request.getfixturevalue("emulated" if where else "compiled")

    def run(name, *arguments):
        numbers = [x.data_ptr() if isinstance(x, torch.Tensor) else x for x in arguments]
        array = (ctypes.c_int64 * len(numbers))(*numbers)
        assert kernels.lstmq_run_stage(name.encode(), library.KERNEL_ISAS.index(isa), array) == 0

    return run
