"""torch.compile as an engine: a bfloat16 model whose windows run as machine code made for them."""

import copy
import os
import shlex
import shutil
import sys
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmq.model import Hidden, LanguageModel, LSTMModel
from lstmq.quantization.torch_ao import dynamic_quantizer

BFLOAT16 = {nn.LSTM: "bfloat16", nn.Linear: "bfloat16", nn.Embedding: "bfloat16"}


def missing_compiler() -> str:
    """Return what is missing here to compile with; empty if nothing."""
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")  # as torch has it
    command = shlex.split(os.environ.get("CXX") or usual)
    return "" if shutil.which(command[0]) else f"a C++ compiler, {command[0]}, on the path"


def quantize_compiled(model: LSTMModel) -> LanguageModel:
    """Return a copy in bfloat16, which is compiled when it first reads: that takes its time.

    Raises:
        QuantizationError: if it is not float32.
    """
    return CompiledModel(cast(LSTMModel, dynamic_quantizer(BFLOAT16)(model)))


class CompiledModel(LanguageModel):
    """An :class:`~lstmq.LSTMModel` whose ``window_loss`` is compiled, weights frozen in it. Logits are not."""

    def __init__(self, model: LSTMModel) -> None:
        super().__init__()
        self.config = model.config
        self.model = model
        # The loss is part of it, so that the logits need not leave it.
        self._compiled = torch.compile(self._loss, options={"freezing": True})

    def __deepcopy__(self, memo: dict[int, object]) -> "CompiledModel":
        """Return a copy that is compiled anew."""
        return CompiledModel(copy.deepcopy(self.model, memo))

    def init_hidden(self, bsz: int) -> Hidden:
        """Return the zero state for ``bsz`` columns, bfloat16."""
        return self.model.init_hidden(bsz)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits and state, as :class:`~lstmq.LSTMModel` does."""
        logits: tuple[Tensor, Hidden] = self.model(input, hidden)
        return logits

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the summed cross-entropy of a window, in nats, and the state after it."""
        # Else it would leave the LSTM as it is. torch.compile is lazy: every new length may compile.
        with torch._dynamo.config.patch(allow_rnn=True):
            total: tuple[Tensor, Hidden] = self._compiled(input, targets, hidden)
        return total

    def _loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        logits, hidden = self.model(input, hidden)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum"), hidden
