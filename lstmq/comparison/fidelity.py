"""How far a quantized model's predictions are from float32's: :func:`compare_predictions`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import mul

import torch
import torch.nn.functional as F
from torch import nn

from lstmq.model import StreamReader, evaluation_mode
from lstmq.text import Stream


@dataclass(kw_only=True)
class Fidelity:
    """What a model makes of a text, and how near that is to what the reference makes of it.

    Attributes:
        losses: mean loss of each window; of words the cross-entropy, in nats per token.
        tokens: of each window.
        kl: mean over all tokens of the Kullback-Leibler divergence of the model's distribution of the next word from
            the reference's, in nats. It sees probabilities that moved even where the mean loss did not. ``None`` if the
            stream has a loss of its own, and so no distributions that are known of.
        agreement: the share of tokens for which both think the same word the likeliest; or ``None``, likewise.
    """

    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    kl: float | None = None
    agreement: float | None = None

    @property
    def loss(self) -> float:
        """Mean over all tokens."""
        return math.fsum(map(mul, self.losses, self.tokens)) / sum(self.tokens)


@torch.inference_mode()
def compare_predictions(
    reference: nn.Module, models: Mapping[str, nn.Module], stream: Stream, bptt: int
) -> dict[str, Fidelity]:
    """Read a stream with the reference and with every model, window by window, hidden states carried over.

    Args:
        reference: float32.
        models: by name, of the reference's vocabulary; the reference may be one of them.
        stream: of one column.
        bptt: longest window, in tokens.
    """
    result = {name: Fidelity() for name in models}
    readers = [StreamReader(model, stream.inputs.shape[1]) for model in (reference, *models.values())]
    divergence, same, rows = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0), 0
    for window in stream.windows(bptt):
        told = []
        for reader in readers:
            with evaluation_mode(reader.model):
                told.append(reader.loss_and_output(window))
        for fidelity, (total, _) in zip(result.values(), told[1:], strict=True):
            fidelity.losses.append(total.item() / window.tokens)
            fidelity.tokens.append(window.tokens)
        if stream.loss is None:
            # Log-probabilities in float32, a row for every target, whatever the model computes in.
            log_p, *others = [F.log_softmax(output.flatten(0, -2).float(), dim=1) for _, output in told]
            rows += len(log_p)
            for name, log_q in zip(models, others, strict=True):
                divergence[name] += F.kl_div(log_q, log_p, reduction="sum", log_target=True).item()
                same[name] += int((log_q.argmax(1) == log_p.argmax(1)).sum())
    if stream.loss is None:
        for name, fidelity in result.items():
            fidelity.kl = divergence[name] / rows
            fidelity.agreement = same[name] / rows
    return result
