"""Tries what a release consists of: ``python .ci/try_release.py dist``, in an environment that may be changed.

The wheel must hold the kernels, for every Python from 3.11 on. It is then installed, and gates the documented example
from an empty folder. Unchanged code passes, also beside other plugins of pytest. A model whose code got 10 % slower
since another checkout fails, and so does int8 that is 5 % slower there. ``tox -e release`` builds both and runs this.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

SABOTAGE = Path(__file__).parents[1] / "tests" / "benchmarks" / "sabotage"
SLOWER_MODEL = """
import time

forward = Tagger.forward


def slower_forward(self, input, hidden=None):
    start = time.process_time()
    result = forward(self, input, hidden)
    end = time.process_time()
    while time.process_time() < end + 0.1 * (end - start):
        pass
    return result


Tagger.forward = slower_forward
"""
PLUGINS = ("pytest-cov==7.1.0", "pytest-randomly==5.1.0", "pytest-xdist==3.8.0")
KERNELS = "lstmq/quantization/native/_kernels.abi3.so"


def run(*command: str | Path, folder: Path | None = None, expected: int = 0, **variables: str) -> None:
    """Run a command, show what it prints, and exit if its exit code is not the expected one."""
    print("$", *command, flush=True)
    code = subprocess.run([*map(str, command)], cwd=folder, env=os.environ | variables, check=False).returncode
    if code != expected:
        sys.exit(f"{command[0]}: expected exit code {expected}, found {code}")


def only(folder: Path, pattern: str) -> Path:
    """Return the only file that matches, or exit."""
    found = [*folder.glob(pattern)]
    if len(found) != 1:
        sys.exit(f"{folder}: expected one {pattern}, found {len(found)}; empty the folder and build again")
    return found[0].resolve()


def main(dist: Path) -> None:
    """Check the wheel in a folder, install it, and gate with it."""
    wheel = only(dist, "*.whl")
    only(dist, "*.tar.gz")
    if KERNELS not in zipfile.ZipFile(wheel).namelist():
        sys.exit(f"{wheel.name}: expected {KERNELS}, found none; is there a C compiler?")
    run("abi3audit", "--strict", wheel)
    run(sys.executable, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", "install", "--quiet", f"{wheel}[gate]")
    with TemporaryDirectory() as name:
        gate_example(Path(name))


def gate_example(folder: Path) -> None:
    """Gate the documented example in an empty folder, or exit."""
    start = time.monotonic()
    run("lstmq", "init", folder=folder)
    run("pytest", "gate", "--gate-retries", "2", folder=folder)
    print(f"lstmq init and pytest gate: {time.monotonic() - start:.0f} s")
    base, mine = folder / "base", folder / "gate" / "mine.py"
    shutil.copytree(mine.parent, base / "gate")
    python = base / ".venv" / "bin" / "python"  # this environment, without the sabotage below
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m lstmq.gate.worker\n", encoding="utf-8")
    python.chmod(0o755)
    against = ("pytest", "gate", "--gate-against", base, "--gate-scheme", "int8", "--gate-retries", "2")
    run(*against, folder=folder)
    slower = ("-p", "broken_gate", "--sabotage", json.dumps({"int8_slower": 0.05}))
    run(*against, *slower, folder=folder, expected=1, PYTHONPATH=str(SABOTAGE))
    text = mine.read_text(encoding="utf-8")
    mine.write_text(text + SLOWER_MODEL, encoding="utf-8")
    run(*against, folder=folder, expected=1)
    mine.write_text(text, encoding="utf-8")
    shutil.rmtree(base)  # its tests have the same names
    run(sys.executable, "-m", "pip", "install", "--quiet", *PLUGINS)
    (folder / "test_own.py").write_text("def test_own():\n    pass\n", encoding="utf-8")
    run("pytest", "--cov=gate", "--gate-scheme", "int8", "--gate-retries", "2", folder=folder)
    run("pytest", "-n", "2", "test_own.py", folder=folder)
    run("pytest", "-n", "2", folder=folder, expected=12)  # the gate must not measure two things at a time


if __name__ == "__main__":
    main(Path(sys.argv[1]))
