"""Gates the stand-ins of published models at their published widths, one session each: ``tox -e models``.

It takes a long time, so CI does not run it. A session passes, or is inconclusive or too noisy; anything else fails.
"""

import subprocess
import sys
from pathlib import Path

from stand_ins import MAKERS

HERE = Path(__file__).parent
NO_REGRESSION = (0, 10, 11)


def gate(name, options):
    """Return the exit code of a session of one model."""
    files = ["--gate-workload", f"{HERE / 'stand_ins.py'}:{name}", "--gate-limits", HERE / "stand_ins.toml"]
    command = [sys.executable, "-m", "pytest", HERE.parent / "benchmarks", *files, *options]
    return subprocess.run(command, check=False).returncode


codes = {name: gate(name, sys.argv[1:]) for name in MAKERS}
for name, code in codes.items():
    print(f"{name}: exit code {code}")
sys.exit(any(code not in NO_REGRESSION for code in codes.values()))
