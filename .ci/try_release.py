"""Tries what a release consists of: ``python .ci/try_release.py dist``, in an environment that may be changed.

The wheel must hold the kernels, for every Python from 3.11 on. It is then installed, and gates the documented example
from an empty folder. ``tox -e release`` builds both and runs this.
"""

import subprocess
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

KERNELS = "lstmq/quantization/native/_kernels.abi3.so"


def run(*command: str | Path, folder: Path | None = None) -> None:
    """Run a command, show what it prints, and exit if it fails."""
    print("$", *command, flush=True)
    if code := subprocess.run([*map(str, command)], cwd=folder, check=False).returncode:
        sys.exit(f"{command[0]}: exit code {code}")


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
        folder, start = Path(name), time.monotonic()
        run("lstmq", "init", folder=folder)
        run("pytest", "gate", "--gate-retries", "2", folder=folder)
        print(f"lstmq init and pytest gate: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
