"""What tests of the benchmark suite share: folders, limits, and the :class:`Result` of a run."""

import re
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SABOTAGE = Path(__file__).with_name("sabotage")
# As close to the figures of the wide model as benchmarks/limits.toml is to those of the tutorial's. On a processor with
# AVX2 only, its int8 is 1.4 to 1.6 times as fast as float32.
INT8_LIMITS = """
speedup = { at_least = 1.15, measured = 2.3 }
size_ratio = { at_least = 2.772, measured = 2.7797 }
loss_difference = { at_least = -0.01, at_most = 0.01, measured = 0.0023 }
kl = { at_most = 0.003, measured = 0.0013 }
"""
BF16_LIMITS = """
size_ratio = { at_least = 1.99, measured = 1.999 }
kl = { at_most = 0.0005, measured = 0.0001 }
"""
LIMITS = {
    "int8": INT8_LIMITS,
    "int8-embedding": INT8_LIMITS.replace("2.772", "3.889").replace("2.7797", "3.9006"),
    "bf16": BF16_LIMITS,
}


@dataclass(frozen=True)
class Result:
    """How a run of pytest, or of ``lstmq gate``, ended.

    Attributes:
        exit_code: the exit code.
        output: standard output.
        errors: standard error.
    """

    exit_code: int
    output: str
    errors: str = ""

    @property
    def verdicts(self):
        """The outcomes in the table of verdicts, as in ``verdicts["limit int8 speedup"]``."""
        lines = iter(self.output.splitlines())
        header = next((line for line in lines if re.match("verdict +question", line)), None)
        if header is None:
            return {}
        edges = [header.index(name) for name in ("verdict", "question", " of ", "metric", "figure")]
        rows = [[line[start:end].strip() for start, end in pairwise(edges)] for line in takewhile(str.strip, lines)]
        return {" ".join(names): outcome for outcome, *names in rows}

    def outcomes(self, word):
        """Return the outcomes of all verdicts on a question, case or metric."""
        return {outcome for name, outcome in self.verdicts.items() if word in name.split()}

    def check_usage_error(self, message):
        """Check that pytest refused its options, with one line that contains ``message``."""
        assert self.exit_code == pytest.ExitCode.USAGE_ERROR, self
        lines = [line for line in self.errors.splitlines() if "error: " in line.lower() and "usage: " not in line]
        assert len(lines) == 1, self
        assert message in lines[0]
        assert "Traceback" not in self.errors + self.output
