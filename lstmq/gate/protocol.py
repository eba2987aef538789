"""What a session and its worker processes say to each other, as types.

Requests and answers are JSON objects, one per line. A request names a method of :class:`~lstmq.gate.worker.Worker` and
its arguments. An answer is one of the types below, or ``{"error": "one line"}``, after which the worker ends.
"""

from dataclasses import dataclass
from typing import Literal

from lstmq.comparison import Fidelity, Machine, Peak
from lstmq.model import ModelSize

PROTOCOL = 6  # version of these types


@dataclass(frozen=True, kw_only=True)
class Hello:
    """The first line of a worker.

    Attributes:
        protocol: its version of this protocol.
        lstmq: its version of lstmq.
        location: the folder of lstmq.
    """

    protocol: int
    lstmq: str
    location: str


@dataclass(frozen=True, kw_only=True)
class SubjectFile:
    """A model and its stream in files of one folder.

    Attributes:
        which: ``speed`` or ``loss``.
        made_by: the ``FILE.py:FUNCTION`` that built the model; empty for an :class:`~lstmq.LSTMModel`.
        folder: the folder.
        keep: names of modules that stay float32.
        own_code: whether the code that builds the model may differ from that of the other environment. Its weights may
            differ then too.
    """

    which: Literal["speed", "loss"]
    made_by: str
    folder: str
    keep: tuple[str, ...] = ()
    own_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The answer to ``load``.

    Attributes:
        machine: the processor and the software.
        models: the names of the models: float32, its copy, and the schemes that this environment supports.
        absent: why a scheme is not among the models, by scheme.
        pinned: whether the process stays on one processor.
    """

    machine: Machine
    models: list[str]
    absent: dict[str, str]
    pinned: bool


@dataclass(frozen=True, kw_only=True)
class Described:
    """The answer to ``describe``.

    Attributes:
        sizes: serialised bytes by model, without the copy.
        fidelity: losses and divergence from float32 by model, without the copy.
        quantized_share: share of all weights that is quantized, by scheme.
        models: as in :class:`Loaded`, without the schemes that cannot quantize the model for the loss.
        absent: likewise, with them.
        peak: what one thread of the processor can do at most; ``None`` without kernels, or from an older version.
    """

    sizes: dict[str, ModelSize]
    fidelity: dict[str, Fidelity]
    quantized_share: dict[str, float]
    models: list[str]
    absent: dict[str, str]
    peak: Peak | None = None


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The answer to ``time`` and ``read_words``.

    Attributes:
        cpu: seconds of CPU time of the process.
        wall: seconds of wall time.
    """

    cpu: float
    wall: float
