"""The shape of a language model: :class:`ModelConfig`. This module does not import torch."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of an :class:`~lstmq.LSTMModel`. The defaults are those of PyTorch's tutorial.

    Args:
        ntoken: number of words in the dictionary.
        ninp: width of the embedding.
        nhid: width of the LSTM's hidden state.
        nlayers: number of LSTM layers.
        dropout: probability of dropping a value while training, at least 0 and below 1.
        tied: whether embedding and decoder share one matrix. ``ninp`` and ``nhid`` are equal then.

    Raises:
        ValueError: if a size is below 1, ``dropout`` is out of range, or a tied model has other ``ninp`` than ``nhid``.

    Example:
        >>> from lstmq import ModelConfig
        >>> ModelConfig(ntoken=100, nlayers=2)
        ModelConfig(ntoken=100, ninp=512, nhid=256, nlayers=2, dropout=0.5, tied=False)
    """

    ntoken: int = 33_278  # WikiText-2
    ninp: int = 512
    nhid: int = 256
    nlayers: int = 5
    dropout: float = 0.5
    tied: bool = False

    def __post_init__(self) -> None:
        for field in fields(self)[:4]:
            size = getattr(self, field.name)
            if size < 1:
                raise ValueError(f"{field.name} must be at least 1, found {size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a probability below 1, found {self.dropout}")
        if self.tied and self.ninp != self.nhid:
            raise ValueError(f"a tied model needs equal widths, found ninp {self.ninp} and nhid {self.nhid}")
