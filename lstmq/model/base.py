"""What all language models have in common: :class:`LanguageModel` and :class:`EngineModel`."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lstmq.model.config import ModelConfig
from lstmq.text import summed_cross_entropy

Hidden = tuple[Tensor, Tensor]
"""The LSTM's state ``(h, c)``. Each is float, shape ``(nlayers, bsz, nhid)``."""


class LanguageModel(nn.Module):
    """A module that reads word ids, returns logits of the next word, and carries a hidden state.

    A subclass implements ``forward(input, hidden) -> (logits, hidden)``:

    * ``input``: int64 ids, shape ``(n, bsz)``;
    * ``logits``: float, shape ``(n, bsz, ntoken)``.

    Attributes:
        config: the shape of the model.
    """

    config: ModelConfig

    def init_hidden(self, bsz: int) -> Hidden:
        """Return the zero state for ``bsz`` columns, float32."""
        shape = (self.config.nlayers, bsz, self.config.nhid)
        return torch.zeros(shape), torch.zeros(shape)

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the loss of one window and the state after it.

        Args:
            input: int64 ids, shape ``(n, bsz)``.
            targets: int64 ids, shape ``(n, bsz)``.
            hidden: the state before the window.

        Returns:
            The cross-entropy summed over the targets, in nats, as a float32 scalar; and the state after the window.
        """
        loss, _, hidden = self.loss_and_output(input, targets, hidden)
        return loss, hidden

    def loss_and_output(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        """Return the loss of one window, the logits, and the state after it. Arguments as for :meth:`window_loss`."""
        output, hidden = self(input, hidden)
        return summed_cross_entropy(output, targets), output, hidden


class EngineModel(LanguageModel):
    """A language model whose engine computes the loss of a window without returning the logits.

    A subclass implements ``window_loss`` and ``forward`` separately. The first window that it reads may take longer,
    because the engine prepares itself then.
    """

    @abstractmethod
    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the loss of one window and the state after it, as :meth:`LanguageModel.window_loss` does."""

    def loss_and_output(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        """Read the window twice: once for the logits, once for the loss. The engine computes them separately."""
        output, _ = self(input, hidden)
        loss, hidden = self.window_loss(input, targets, hidden)
        return loss, output, hidden
