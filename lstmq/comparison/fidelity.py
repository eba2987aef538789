"""How far the predictions of a quantized model are from those of float32: :func:`compare_predictions`."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import mul
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lstmq.model import StreamReader, evaluation_mode, preserve_random_state
from lstmq.text import IGNORED, Stream


@dataclass(kw_only=True)
class Fidelity:
    """The losses of a model on a stream, and the distance of its predictions from those of the reference.

    Attributes:
        losses: mean loss of each window. For words it is the cross-entropy, in nats per token. Windows without a target
            that counts are left out.
        tokens: number of targets of each window that count.
        kl: mean over all these targets of the Kullback-Leibler divergence from the reference's distribution of the
            next word to the model's, in nats. It shows probabilities that moved even if the mean loss did not. ``None``
            if the stream has its own loss, because then the outputs need not be logits.
        agreement: share of these targets for which both find the same word most likely; ``None`` likewise.
    """

    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    kl: float | None = None
    agreement: float | None = None

    @property
    def loss(self) -> float:
        """The mean loss over all targets."""
        return math.fsum(map(mul, self.losses, self.tokens)) / sum(self.tokens)


@torch.inference_mode()
def compare_predictions(
    reference: nn.Module, models: Mapping[str, nn.Module], stream: Stream, bptt: int
) -> dict[str, Fidelity]:
    """Read a stream with the reference and with every model, window by window, carrying their hidden states.

    Args:
        reference: float32.
        models: by name, with the dictionary of the reference. The reference may be one of them.
        stream: what they read.
        bptt: longest window, in steps.

    Raises:
        ValueError: if no target counts, or a model cannot be called.
    """
    result = {name: Fidelity() for name in models}
    modules = [reference, *models.values()]
    divergences, agreements, rows = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0), 0
    with preserve_random_state(), ExitStack() as modes:
        for module in modules:
            modes.enter_context(evaluation_mode(module))
        readers = [StreamReader(module, stream) for module in modules]
        for window in stream.windows(bptt):
            outputs = [reader.loss_and_output(window) for reader in readers]
            for fidelity, (loss, targets, _) in zip(result.values(), outputs[1:], strict=True):
                if targets:
                    fidelity.losses.append(loss.item() / targets)
                    fidelity.tokens.append(targets)
            if stream.loss is not None:
                continue
            counted: Any = window.targets.flatten() != IGNORED if window.has_ignored else slice(None)
            # Log-probabilities in float32, one row for each target, whatever dtype the model computes in.
            log_p, *others = [F.log_softmax(output.flatten(0, -2)[counted].float(), dim=1) for *_, output in outputs]
            rows += len(log_p)
            for name, log_q in zip(models, others, strict=True):
                divergences[name] += F.kl_div(log_q, log_p, reduction="sum", log_target=True).item()
                agreements[name] += int((log_q.argmax(1) == log_p.argmax(1)).sum())
    if not all(fidelity.tokens for fidelity in result.values()):
        raise ValueError(f"expected a target that counts, found only {IGNORED}")
    if stream.loss is None:
        for name, fidelity in result.items():
            fidelity.kl = divergences[name] / rows
            fidelity.agreement = agreements[name] / rows
    return result
