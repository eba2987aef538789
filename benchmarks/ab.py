"""Compares two environments of ``tox.ini`` in one session: ``tox -e ab -- torch2.13 torch2.15``.

The question is whether int8 is slower in the second environment (``here``) than in the first (``there``). tox builds
both if they do not exist yet; nothing else runs in them. Further arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Build both environments, run the gate, and return pytest's exit code."""
    if len(sys.argv) < 3:
        print("expected two environments, as in `tox -e ab -- torch2.13 torch2.15`", file=sys.stderr)
        return 2
    names = [f"py311-{name}" for name in sys.argv[1:3]]
    tox = find_tox()
    try:
        subprocess.run([*tox, "run", "--notest", "-e", ",".join(dict.fromkeys(names))], check=True)
        there, here = (find_python(tox, name) for name in names)
    except subprocess.CalledProcessError as error:
        print(error.stderr or f"tox could not build {' and '.join(names)}", file=sys.stderr)
        return 2
    command = [here, "-P", "-m", "pytest", "benchmarks", "--gate-against", there, *sys.argv[3:]]
    return subprocess.run(command, check=False).returncode


def find_tox() -> list[str]:
    """Return the command of the tox on the path, because it has the user's plugins; without one, this environment's."""
    own = Path(sys.executable).parent
    path = os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder).resolve() != own.resolve())
    found = shutil.which("tox", path=path)
    return [found] if found else [sys.executable, "-m", "tox"]


def find_python(tox: list[str], environment: str) -> str:
    """Return the path of the Python in an environment of tox."""
    command = [*tox, "config", "-e", environment, "-k", "env_python"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("env_python = ")]
    return line.removeprefix("env_python = ")


if __name__ == "__main__":
    sys.exit(main())
