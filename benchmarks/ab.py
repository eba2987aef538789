"""Two environments of ``tox.ini`` against one another, in one session: ``tox -e ab -- torch2.13 torch2.15``.

Is int8 slower in the second than in the first? Both are built, if they are not yet, and nothing is run in them but
this. What follows their names reaches pytest. ``there`` is the first, ``here`` the second.

An upgrade is worth some minutes: of 12 processes, rather than the gate's 8, the interval leaves out the most extreme
one at each end, so that a single one that had bad luck decides nothing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Build, measure, and return pytest's exit code."""
    if len(sys.argv) < 3:
        print("expected two environments, as in `tox -e ab -- torch2.13 torch2.15`", file=sys.stderr)
        return 2
    names = [f"py311-{name}" for name in sys.argv[1:3]]
    tox = find_tox()
    try:
        subprocess.run([*tox, "run", "--notest", "-e", ",".join(dict.fromkeys(names))], check=True)
        there, here = (ask(tox, name, "env_python") for name in names)
    except subprocess.CalledProcessError as error:
        print(error.stderr or f"{' and '.join(names)} could not be built", file=sys.stderr)
        return 2
    gate = [here, "-P", "-m", "pytest", "benchmarks", "--gate-against", there, "--workers", "12", *sys.argv[3:]]
    return subprocess.run(gate, check=False).returncode


def find_tox() -> list[str]:
    """Return the tox on the path, with what plugins it has, if there is one outside this environment; else its own."""
    own = Path(sys.executable).parent
    outside = os.pathsep.join(each for each in os.get_exec_path() if Path(each).resolve() != own.resolve())
    found = shutil.which("tox", path=outside)
    return [found] if found else [sys.executable, "-m", "tox"]


def ask(tox: list[str], environment: str, key: str) -> str:
    """Return a value of the configuration."""
    told = subprocess.run([*tox, "config", "-e", environment, "-k", key], check=True, capture_output=True, text=True)
    (line,) = [line for line in told.stdout.splitlines() if line.startswith(f"{key} = ")]
    return line.removeprefix(f"{key} = ")


if __name__ == "__main__":
    sys.exit(main())
