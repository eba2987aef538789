"""What is measured: a model, a stream for it, and where they come from."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import nn

from lstmq.text import Dictionary, Stream

ModelT_co = TypeVar("ModelT_co", bound=nn.Module, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Subject(Generic[ModelT_co]):
    """A float32 model and a stream for it.

    Attributes:
        model: in evaluation mode; what its forward is to be, :class:`lstmq.evaluation.Reader` says.
        stream: of a text one column, as the tutorial evaluates.
        origin: where model and stream come from, in words.
        dictionary: the words of its ids; empty if it reads no words.
    """

    model: ModelT_co
    stream: Stream
    origin: str
    dictionary: Dictionary = field(default_factory=Dictionary)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What speed and size are measured on, and what the loss is measured on: one and the same for a real checkpoint.

    The embedded default times the tutorial's full shape with seeded weights, for speed does not depend on their values,
    and takes the loss of the small model that was trained on the sample.

    Attributes:
        speed: read in slices, against the clock.
        loss: read once, from its beginning to its end.
        made_by: the ``FILE.py:FUNCTION`` that made it; empty for a language model of this package's.
    """

    speed: Subject[nn.Module]
    loss: Subject[nn.Module]
    made_by: str = ""
