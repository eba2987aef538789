"""The tutorial's language model: an embedding, a stack of LSTM layers, a linear decoder."""

from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from lstmq.model.base import Hidden, LanguageModel
from lstmq.model.config import ModelConfig

State = TypeVar("State", Tensor, Hidden)


class LSTMModel(LanguageModel):
    """Next-word logits from word ids.

    Modules and state-dict keys are those of the tutorial, so that its published checkpoint loads.

    Args:
        config: the shape.
        generator: draws the initial weights; without one, torch's global generator does.
    """

    _state: Tensor

    def __init__(self, config: ModelConfig, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        between_layers = config.dropout if config.nlayers > 1 else 0.0  # nn.LSTM warns of dropout with one layer
        self.drop = nn.Dropout(config.dropout)
        # init_weights draws every weight, so the modules' own draws are to leave no trace. (Made on the meta device
        # they would draw nothing, but its first use imports a second's worth of torch.)
        with torch.random.fork_rng(devices=[]):
            table = torch.empty(config.ntoken, config.ninp)
            self.encoder = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call] # torch's
            self.rnn = nn.LSTM(config.ninp, config.nhid, config.nlayers, dropout=between_layers)
            self.decoder = nn.Linear(config.nhid, config.ntoken)
        # The dtype and device of the hidden state. A quantized model may have no parameter left to ask for them.
        self.register_buffer("_state", torch.empty(0), persistent=False)
        self.init_weights(generator)

    def init_weights(self, generator: Generator | None = None) -> None:
        """Draw embedding and decoder from +-0.1 with a zero bias, as the tutorial does, and the LSTM as torch does."""
        bound = self.config.nhid**-0.5
        with torch.no_grad():
            self.encoder.weight.uniform_(-0.1, 0.1, generator=generator)
            self.decoder.weight.uniform_(-0.1, 0.1, generator=generator)
            self.decoder.bias.zero_()
            for weight in self.rnn.parameters():
                weight.uniform_(-bound, bound, generator=generator)

    def init_hidden(self, bsz: int) -> Hidden:
        """Return the zero state for ``bsz`` columns."""
        shape = (self.config.nlayers, bsz, self.config.nhid)
        return self._state.new_zeros(shape), self._state.new_zeros(shape)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Read ``n`` steps of ``bsz`` columns.

        Args:
            input: int64 ids, shape ``(n, bsz)``.
            hidden: the state before the first step.

        Returns:
            logits of the next word, float, shape ``(n, bsz, ntoken)``, and the state after the last step.
        """
        embedded = self.drop(self.encoder(input))  # (n, bsz, ninp)
        output, hidden = self.rnn(embedded, hidden)  # (n, bsz, nhid)
        return self.decoder(self.drop(output)), hidden


def repackage_hidden(hidden: State) -> State:
    """Return the state cut off from its history, so that backpropagation through time ends here.

    Args:
        hidden: a tensor, or the LSTM's pair of them.
    """
    if isinstance(hidden, Tensor):
        return hidden.detach()
    h, c = hidden
    return h.detach(), c.detach()
