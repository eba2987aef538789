"""Fixtures that run the benchmarks with pytest, while something in the gate is broken on purpose.

``sabotage/`` holds what breaks it: a plugin for pytest, and a script that replaces the worker processes.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from benchmarks.sabotage.fork_worker import SOCKET
from benchmarks.suite import CHECKOUT, LIMITS, SABOTAGE, Result
from benchmarks.user_model import MODEL
from lstmq import LSTMModel, ModelConfig, load_checkpoint, save_checkpoint
from lstmq.cli import main
from lstmq.workload import sample_folder


@pytest.fixture(scope="session")
def _pytest_server():
    """The process that runs pytest, see ``run_pytest.py``."""
    # A run must not see the variables of the pytest that runs these tests: pytest-benchmark measures nothing under
    # xdist, and the gate writes a page on GitHub.
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_"))}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SABOTAGE), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", str(Path(__file__).with_name("run_pytest.py"))]
    with TemporaryDirectory() as folder:  # the path of a socket must be short
        if hasattr(os, "pidfd_open"):
            variables[SOCKET] = str(Path(folder, "socket"))
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, **streams, text=True, env=variables) as server:
            yield server
            server.stdin.close()


@pytest.fixture
def run_pytest(_pytest_server, tmp_path, tmp_path_factory):
    """A function that runs pytest with ``tmp_path`` as root, and returns the :class:`Result`."""

    def run(*arguments, sabotage=None, variables=()):
        # Hypothesis's plugin takes long to start, and no benchmark needs it.
        options = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "broken_gate"]
        options += ["-c", CHECKOUT / "pyproject.toml", "--rootdir", tmp_path]
        options += ["--sabotage", json.dumps(sabotage or {})]
        files = [tmp_path_factory.mktemp("output") / name for name in ("stdout", "stderr")]
        request = {
            "arguments": [*map(str, [*options, *arguments])],
            "folder": str(tmp_path),
            "variables": dict(variables),
            "stdout": str(files[0]),
            "stderr": str(files[1]),
        }
        _pytest_server.stdin.write(json.dumps(request) + "\n")
        _pytest_server.stdin.flush()
        exit_code = int(_pytest_server.stdout.readline())
        return Result(exit_code, *(file.read_text(encoding="utf-8") for file in files))

    return run


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory):
    """The sample's model inside one that is 256 units wide. It predicts the same, and int8 is faster there."""
    small = load_checkpoint(sample_folder() / "lstm.safetensors")
    config = small.config
    wide = LSTMModel(ModelConfig(ntoken=config.ntoken, ninp=config.ninp, nhid=256, nlayers=config.nlayers))
    for name, weight in wide.state_dict().items():
        weight.zero_()
        gates = 4 if name.startswith("rnn") else 1  # one below the other
        for wide_part, part in zip(weight.chunk(gates), small.state_dict()[name].chunk(gates), strict=True):
            wide_part[tuple(map(slice, part.shape))] = part
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    save_checkpoint(wide, path)
    return path


@pytest.fixture
def suite(run_pytest, wide_checkpoint, tmp_path):
    """A function that runs the benchmarks of the schemes on the wide model.

    It takes further options; what to break, as :class:`sabotage.Sabotage` names it; and the limits as rows by case. If
    ``retry``, it runs up to three times while the machine is too noisy to decide.
    """

    def run(*options, sabotage=None, limits=LIMITS, variables=(), retry=False):
        tables = "".join(f"[{case}]\n{rows}\n" for case, rows in limits.items())
        (tmp_path / "limits.toml").write_text(tables, encoding="utf-8")
        common = [CHECKOUT / "benchmarks" / "test_evaluation.py", "--gate-limits", tmp_path / "limits.toml"]
        common += ["--gate-corpus", sample_folder(), "--gate-checkpoint", wide_checkpoint, "--gate-tokens", 1000]
        common += ["--gate-looks", 24, "--gate-blocks", 24, "--gate-slices", 1]  # one process
        common += ["--benchmark-storage", f"file://{tmp_path / 'storage'}"]
        for _ in range(3 if retry else 1):
            result = run_pytest(*common, *options, sabotage=sabotage, variables=variables)
            if not {"INCONCLUSIVE", "INVALID"} & {*result.verdicts.values()}:
                break
        return result

    return run


@pytest.fixture
def other_python(tmp_path):
    """A function that returns the path of another Python. Its arguments are what is broken there."""

    def write(**sabotage):
        worker = shlex.join([sys.executable, str(SABOTAGE / "fork_worker.py"), json.dumps(sabotage)])
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\nexec {worker}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def lstmq():
    """A function that runs the ``lstmq`` command and returns the :class:`Result`."""

    def run(*arguments):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        return Result(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def wheel_folder(tmp_path_factory):
    """A folder with the built wheel installed in it."""
    wheels, folder = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", wheels, CHECKOUT], check=True)
    [wheel] = wheels.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", folder, wheel], check=True)
    return folder


@pytest.fixture
def run_python(wheel_folder, tmp_path):
    """A function that runs Python in ``tmp_path`` with lstmq from the wheel, and returns the finished process."""

    def run(*arguments, folder=tmp_path, **variables):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_"))}
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env=clean | {"PYTHONPATH": str(wheel_folder)} | variables,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def own_model(tmp_path):
    """``gate/mine.py`` in ``tmp_path``."""
    path = tmp_path / "gate" / "mine.py"
    path.parent.mkdir()
    path.write_text(MODEL, encoding="utf-8")
    return path
