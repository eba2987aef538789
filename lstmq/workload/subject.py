"""What is measured: :class:`Subject`, and :class:`Workload`, a pair of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from torch import nn

from lstmq.model import LanguageModel
from lstmq.text import Dictionary, Stream

ModelT_co = TypeVar("ModelT_co", bound=nn.Module, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Subject(Generic[ModelT_co]):
    """A float32 model and a stream for it to read.

    Args:
        model: in evaluation mode. Either a ``LanguageModel``, or any module whose forward is
            ``(input, state) -> (output, state)`` or ``input -> output``. A state is an argument without a default, or
            one that is called ``hidden``, ``h0``, ``state`` or the like; there may be several. It begins as
            ``model.init_hidden(bsz)`` returns it, or as ``None`` if the module has no such method. The quantized
            models begin with the state of this model.
        stream: inputs and targets. Text is usually in one column, as the tutorial evaluates it.
        origin: where the model and the stream come from, in words that tables and reports show.
        dictionary: words of the ids, if the model reads words.
        call: calls the model, if its forward is of another kind; as for :class:`~lstmq.Stream`.
        keep: names of modules that stay float32 when the model is quantized; as for :func:`~lstmq.quantize`.

    Example:
        >>> import torch
        >>> from lstmq import Stream, Subject
        >>> stream = Stream(inputs=torch.rand(100, 2, 8), targets=torch.zeros(100, 2, dtype=torch.int64))
        >>> subject = Subject(model=torch.nn.Linear(8, 3).eval(), stream=stream, origin="a classifier with new weights")
        >>> subject.stream.tokens
        200
    """

    model: ModelT_co
    stream: Stream
    origin: str
    dictionary: Dictionary = field(default_factory=Dictionary)
    call: Callable[..., Any] | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.stream, Stream):
            return  # whoever loads the subject says so
        changes: dict[str, Any] = {"call": self.call} if self.call else {}
        init_hidden = getattr(self.model, "init_hidden", None)
        if init_hidden and not self.stream.first_state and not isinstance(self.model, LanguageModel):
            changes["first_state"] = init_hidden
        if changes:
            object.__setattr__(self, "stream", replace(self.stream, **changes))


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The subject that speed and size are measured on, and the subject that the loss is measured on.

    For a trained model, both are the same subject. The default workload has two: speed does not depend on the values of
    weights, so it times the tutorial's full shape with seeded weights, and it measures the loss of the small trained
    model of the bundled sample.

    Args:
        speed: models read slices of its stream while the clock runs.
        loss: models read its stream once, from start to end.
        made_by: ``FILE.py:FUNCTION`` that returned the workload; :func:`~lstmq.load_workload` fills it in.

    Example:
        >>> import torch
        >>> from lstmq import LSTMModel, ModelConfig, Subject, Workload, batchify, next_words
        >>> model = LSTMModel(ModelConfig(ntoken=50, ninp=16, nhid=16, nlayers=1)).eval()
        >>> stream = next_words(batchify(torch.arange(50), bsz=1))
        >>> subject = Subject(model=model, stream=stream, origin="a small model with new weights")
        >>> workload = Workload(speed=subject, loss=subject)
        >>> len(workload.loss.stream)
        49
    """

    speed: Subject[nn.Module]
    loss: Subject[nn.Module]
    made_by: str = ""
