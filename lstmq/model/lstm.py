"""The language model of PyTorch's tutorial: an embedding, LSTM layers and a linear decoder."""

from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from lstmq.model.base import Hidden, LanguageModel
from lstmq.model.config import ModelConfig

HiddenT = TypeVar("HiddenT", Tensor, Hidden)


class LSTMModel(LanguageModel):
    """Predicts the next word of each word.

    The modules and the keys of the state dict have the names that the tutorial gives them, so that the tutorial's
    checkpoint loads.

    Args:
        config: the shape of the model.
        generator: draws the initial weights. The default is torch's global generator.

    Attributes:
        config: the shape of the model.

    Example:
        >>> import torch
        >>> from lstmq import LSTMModel, ModelConfig
        >>> model = LSTMModel(ModelConfig(ntoken=100, ninp=16, nhid=8, nlayers=2), torch.Generator().manual_seed(0))
        >>> input = torch.zeros(25, 4, dtype=torch.int64)
        >>> logits, hidden = model(input, model.init_hidden(bsz=4))
        >>> logits.shape
        torch.Size([25, 4, 100])
    """

    _state: Tensor

    def __init__(self, config: ModelConfig, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        between_layers = config.dropout if config.nlayers > 1 else 0.0  # with one layer, nn.LSTM warns of dropout
        self.drop = nn.Dropout(config.dropout)
        # The modules draw weights too. Restore torch's generator, because only init_weights is meant to draw.
        # (On the meta device they would draw nothing, but using it imports more of torch, which takes a second.)
        with torch.random.fork_rng(devices=[]):
            table = torch.empty(config.ntoken, config.ninp)
            self.encoder = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call] # torch's
            self.rnn = nn.LSTM(config.ninp, config.nhid, config.nlayers, dropout=between_layers)
            self.decoder = nn.Linear(config.nhid, config.ntoken)
        if config.tied:
            self.decoder.weight = self.encoder.weight
        # An empty tensor that has the dtype and device of the hidden state. A quantized model may have no parameters.
        self.register_buffer("_state", torch.empty(0), persistent=False)
        self.init_weights(generator)

    def init_weights(self, generator: Generator | None = None) -> None:
        """Draw all weights: embedding and decoder from +-0.1, as the tutorial does, and the LSTM as torch does."""
        bound = self.config.nhid**-0.5
        with torch.no_grad():
            self.encoder.weight.uniform_(-0.1, 0.1, generator=generator)
            self.decoder.weight.uniform_(-0.1, 0.1, generator=generator)
            self.decoder.bias.zero_()
            for weight in self.rnn.parameters():
                weight.uniform_(-bound, bound, generator=generator)

    @property
    def is_tied(self) -> bool:
        """Whether embedding and decoder share one matrix, because of the config or because somebody tied them later."""
        return self.decoder.weight is self.encoder.weight

    def init_hidden(self, bsz: int) -> Hidden:
        """Return the zero state for ``bsz`` columns, in the dtype of the model."""
        shape = (self.config.nlayers, bsz, self.config.nhid)
        return self._state.new_zeros(shape), self._state.new_zeros(shape)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Read one window.

        Args:
            input: int64 ids, shape ``(n, bsz)``.
            hidden: the state before the window.

        Returns:
            The logits of the next words, float, shape ``(n, bsz, ntoken)``, and the state after the window.
        """
        embedded = self.drop(self.encoder(input))  # (n, bsz, ninp)
        output, hidden = self.rnn(embedded, hidden)  # (n, bsz, nhid)
        return self.decoder(self.drop(output)), hidden


def repackage_hidden(hidden: HiddenT) -> HiddenT:
    """Detach the hidden state from its history, so that backpropagation through time ends here.

    Args:
        hidden: a tensor, or a pair of tensors as the LSTM has.

    Returns:
        The same values without gradients. The argument does not change.

    Example:
        >>> import torch
        >>> from lstmq import repackage_hidden
        >>> hidden = torch.ones(2, 4, 8, requires_grad=True) * 2
        >>> hidden.requires_grad, repackage_hidden(hidden).requires_grad
        (True, False)
    """
    if isinstance(hidden, Tensor):
        return hidden.detach()
    h, c = hidden
    return h.detach(), c.detach()
