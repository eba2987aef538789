"""Fixtures for int8-native: the installed kernels, the same compiled for tests, and emulated ones.

Emulation replaces the intrinsics of AVX-VNNI, AVX512 and AMX by plain C. It tests their arithmetic on processors that do not have
them, but not their speed. The variable ``SANITIZE`` holds compiler flags; with it, all kernels are compiled for tests.
"""

import ctypes
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from lstmq.quantization.native import library

FOLDER = Path(__file__).parent
SOURCES = FOLDER.parents[2] / "lstmq" / "quantization" / "native" / "csrc"
SANITIZE = os.environ.get("SANITIZE", "").split()
FLAGS = "-O2 -std=gnu11 -ffp-contract=off -fno-trapping-math -fno-math-errno -fPIC -shared".split()
FLAGS += "-Wall -Wextra -Werror -Wno-unknown-pragmas".split()
KERNELS = library.available_isas()[1:]
SLOW_KERNELS = [pytest.param(isa, marks=pytest.mark.slow) for isa in KERNELS] if SANITIZE else KERNELS
EMULATED = [pytest.param(f"emulated {isa}", marks=pytest.mark.slow) for isa in ("avx_vnni", "avx512_vnni", "amx_int8")]
assert KERNELS or not SANITIZE, "nothing to check: the kernels were not built"


def compile_kernels(folder, *flags):
    """Compile ``csrc/`` and ``stages.c`` to a library. Every warning is an error."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    sources = [path for path in sorted(SOURCES.glob("*.c")) if path.name != "module.c"]
    command = [compiler, *FLAGS, *SANITIZE, *flags, f"-I{SOURCES}", "-o", folder / "kernels.so"]
    subprocess.run([*command, *sources, FOLDER / "stages.c", "-lm"], check=True)
    return library.open_library(str(folder / "kernels.so"))


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The kernels, compiled together with ``stages.c``."""
    return compile_kernels(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    """The kernels, compiled with emulated intrinsics."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("intrinsics are emulated on x86-64 only")
    return compile_kernels(tmp_path_factory.mktemp("emulated"), f'-DLSTMQ_EMULATE="{FOLDER / "emulated.h"}"')


@pytest.fixture(params=[*SLOW_KERNELS, *EMULATED])
def isa(request, monkeypatch):
    """The name of a kernel that is selected for all models: each one that runs here, and the emulated ones."""
    name = request.param.removeprefix("emulated ")
    if name != request.param:
        kernels = request.getfixturevalue("emulated")
    else:
        kernels = request.getfixturevalue("compiled") if SANITIZE else library.load_library()
    monkeypatch.setattr(library, "load_library", lambda: kernels)
    monkeypatch.setenv(library.ISA_VARIABLE, name)
    return name


@pytest.fixture(params=[*KERNELS, *EMULATED])
def call_stage(request):
    """A function that calls a function of ``stages.c`` with one kernel. It passes tensors as pointers."""
    name = request.param.removeprefix("emulated ")
    kernels = request.getfixturevalue("compiled" if name == request.param else "emulated")

    def call(function, *arguments):
        pointers = [ctypes.c_void_p(x.data_ptr()) if isinstance(x, torch.Tensor) else x for x in arguments]
        getattr(kernels, function)(library.KERNEL_ISAS.index(name), *pointers)

    return call
