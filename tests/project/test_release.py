"""Laws of a release: the sdist holds the package and nothing else, and the sdist needs no compiler.

``tox -e release`` checks the wheel that a compiler makes.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
SUFFIXES = (".html", ".py", ".pyi", ".txt", ".typed")
SAMPLE = ("lstm.safetensors", "make_sample.py", "sample.grammar", "test.txt", "train.txt", "valid.txt")


def run(*command, **options):
    process = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=100, **options)
    assert process.returncode == 0, f"{process.stdout}\n{process.stderr}"
    return process.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The sdist of what is in this checkout, without what earlier builds left here."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("lstmq", "data/sample"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, source)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", dist, source)
    [path] = dist.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(sdist, tmp_path_factory):
    """A folder with the package, installed from the sdist where the C compiler fails."""
    folder = tmp_path_factory.mktemp("installed")
    broken = {"CC": "false", "CXX": "false", "LDSHARED": "false"}
    options = ("--quiet", "--no-deps", "--no-compile", "--target", folder)
    run(sys.executable, "-m", "pip", "install", *options, sdist, env=os.environ | broken)
    return folder


def package_files():
    """Return the files that belong into the package, by their path in it."""
    found = {path for path in (CHECKOUT / "lstmq").rglob("*") if path.suffix in SUFFIXES}
    return {str(path.relative_to(CHECKOUT)) for path in found} | {f"lstmq/sample/{name}" for name in SAMPLE}


def test_sdist_holds_the_package_its_c_code_and_its_licence(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    code = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "lstmq").rglob("csrc/*.[ch]")}
    assert {f"lstmq/quantization/native/csrc/{name}" for name in ("kernels.h", "window.c", "peak.c")} <= code
    package = {name.replace("lstmq/sample/", "data/sample/") for name in package_files()}
    metadata = {"LICENSE", "README.md", "PKG-INFO", "pyproject.toml", "setup.cfg"}
    assert {name for name in files if not name.startswith("lstmq.egg-info/")} == package | code | metadata
    assert not {name for name in names if name.startswith(("tests", "benchmarks", "docs"))}


def test_sdist_installs_without_a_compiler_as_the_same_package_without_kernels(installed):
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert {name for name in files if name.startswith("lstmq/")} == package_files()
    assert not {name for name in files if name.endswith((".so", ".pyd", ".dll", ".dylib"))}


def test_package_without_kernels_computes_int8_native_in_torch_and_says_what_it_lacks(installed, tmp_path):
    code = """
import lstmq, torch
from lstmq.quantization.native.library import available_isas, missing_kernels
print(lstmq.__file__, *available_isas(), sep=";")
print(missing_kernels())
torch.set_num_threads(1)
text = lstmq.load_workload(None, None, None, 100, 100).loss
models = text.model, lstmq.quantize(text.model, "int8-native")
print(*(lstmq.evaluate(model, text.stream.slice(0, 50), 25) for model in models), sep=";")
"""
    python = (sys.executable, "-W", "error", "-P", "-c", code)
    environment = {name: value for name, value in os.environ.items() if name != "LSTMQ_ISA"}
    lines = run(*python, cwd=tmp_path, env=environment | {"PYTHONPATH": str(installed)}).splitlines()
    assert lines[0] == f"{installed / 'lstmq' / '__init__.py'};reference"
    assert lines[1] == "its compiled kernels: reinstall lstmq where there is a C compiler"
    float32, native = map(float, lines[2].split(";"))
    assert native == pytest.approx(float32, abs=0.02)
