"""What to break, and what breaks in the same way in the process of pytest and in its workers."""

import json
import sys
from dataclasses import asdict, dataclass

from broken_schemes import add_schemes


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    """What to break.

    Attributes:
        broken_schemes: adds :data:`broken_schemes.BROKEN` to the schemes.
        int8_slower: share by which int8 takes longer than it has to.
        fake_clock: if given, workers do not read slices. Their clock shows what a slice would take, give or take this
            share.
        slow_once: int8 takes twice as long in one ``process`` of the session, or in one ``block``.
        marker: path of a file that the slow process creates, so that no other process is slow.
        no_dynamic_quantization: removes ``torch.ao.quantization``, as a later torch may do.
        hidden_package: a package that seems not to be installed.
        kill: in the middle of the timing, the worker kills itself (``worker``) or interrupts pytest (``session``).
        dropped_cases: names of benchmarks that are not collected.
        failing_cases: names of benchmarks that raise an error where they should judge their scheme.
    """

    broken_schemes: bool = False
    int8_slower: float = 0.0
    fake_clock: float | None = None
    slow_once: str = ""
    marker: str = ""
    no_dynamic_quantization: bool = False
    hidden_package: str = ""
    kill: str = ""
    dropped_cases: tuple[str, ...] = ()
    failing_cases: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text):
        return cls(**json.loads(text))

    def to_json(self):
        return json.dumps(asdict(self))

    def break_process(self):
        """Break the schemes and packages of this process."""
        if self.broken_schemes:
            add_schemes()
        if self.hidden_package:
            sys.modules[self.hidden_package] = None
        if self.no_dynamic_quantization:
            import torch

            sys.modules["torch.ao.quantization"] = None
            vars(torch.ao).pop("quantization", None)
            vars(torch.backends).pop("quantized", None)
