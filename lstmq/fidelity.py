"""How far a quantized model's next words are from float32's: :func:`compare_predictions`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmq.batching import windows
from lstmq.evaluation import evaluation_mode
from lstmq.model import LSTMModel


@dataclass(kw_only=True)
class Fidelity:
    """What a model makes of a text, and how near that is to what the reference makes of it.

    Attributes:
        losses: mean cross-entropy of each window, in nats per token.
        tokens: of each window.
        kl: mean over all tokens of the Kullback-Leibler divergence of the model's distribution of the next word from
            the reference's, in nats. It sees probabilities that moved even where the mean loss did not.
        agreement: the share of tokens for which both think the same word the likeliest.
    """

    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    kl: float = 0.0
    agreement: float = 0.0

    @property
    def loss(self) -> float:
        """Mean cross-entropy over all tokens, in nats per token."""
        return math.fsum(map(math.prod, zip(self.losses, self.tokens, strict=True))) / sum(self.tokens)


@torch.inference_mode()
def compare_predictions(
    reference: LSTMModel, models: Mapping[str, LSTMModel], source: Tensor, bptt: int
) -> dict[str, Fidelity]:
    """Read a stream with the reference and with every model, window by window, hidden states carried over.

    Args:
        reference: float32.
        models: by name, of the reference's vocabulary; the reference may be one of them.
        source: int64 ids, shape ``(tokens, 1)``, at least two.
        bptt: longest window, in tokens.
    """
    result = {name: Fidelity() for name in models}
    everyone = [reference, *models.values()]
    hidden = [model.init_hidden(source.shape[1]) for model in everyone]
    divergence, same = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0)
    for data, targets in windows(source, bptt):
        told = []  # float32 log-probabilities, shape (window, ntoken), whatever the model computes in
        for i, model in enumerate(everyone):
            with evaluation_mode(model):
                logits, hidden[i] = model(data, hidden[i])
            told.append(F.log_softmax(logits.flatten(0, 1).float(), dim=1))
        for (name, fidelity), log_q in zip(result.items(), told[1:], strict=True):
            fidelity.losses.append(F.nll_loss(log_q, targets).item())
            fidelity.tokens.append(len(targets))
            divergence[name] += F.kl_div(log_q, told[0], reduction="sum", log_target=True).item()
            same[name] += int((log_q.argmax(1) == told[0].argmax(1)).sum())
    for name, fidelity in result.items():
        fidelity.kl = divergence[name] / sum(fidelity.tokens)
        fidelity.agreement = same[name] / sum(fidelity.tokens)
    return result
