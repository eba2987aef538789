"""How much of a model a scheme quantized: :func:`describe_coverage`, :func:`quantized_share`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from lstmq.model import EngineModel
from lstmq.quantization.native import Int8Module
from lstmq.quantization.schemes import SCHEMES


@dataclass(frozen=True, kw_only=True)
class Part:
    """A module with weights of its own.

    Attributes:
        name: its name in the model.
        kind: the name of its class before quantization.
        weights: number of its weights.
    """

    name: str
    kind: str
    weights: int


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a scheme replaced in a model, and what it did not.

    Attributes:
        quantized: parts whose weights are quantized.
        float32: parts whose weights stayed float32.
        share: quantized weights over all weights of the model. A weight that several parts share counts once, and as
            quantized only if all of them are.
    """

    quantized: tuple[Part, ...]
    float32: tuple[Part, ...]
    share: float

    def __str__(self) -> str:
        if not self.float32:
            return "all weights are quantized"
        quantized, float32 = map(_list_parts, (self.quantized, self.float32))
        return f"{self.share:.0%} of the weights are quantized: {quantized or 'none'}; float32: {float32}"


def describe_coverage(model: nn.Module, quantized: nn.Module, scheme: str) -> Coverage:
    """Return what a scheme replaced.

    Args:
        model: float32.
        quantized: what :func:`~lstmq.quantize` returned for the model and the scheme.
        scheme: a key of :data:`~lstmq.SCHEMES`.

    Example:
        >>> from lstmq import LSTMModel, ModelConfig, quantize
        >>> from lstmq.quantization import describe_coverage
        >>> model = LSTMModel(ModelConfig(ntoken=100, ninp=10, nhid=10, nlayers=1))
        >>> print(describe_coverage(model, quantize(model, "int8"), "int8"))
        66% of the weights are quantized: LSTM rnn, Linear decoder; float32: Embedding encoder
    """
    # An engine's model is of another kind, whose modules have no counterparts.
    is_whole = isinstance(quantized, EngineModel) and "Module" not in SCHEMES[scheme].quantizes
    parts: dict[bool, list[Part]] = {True: [], False: []}
    weights: dict[int, int] = {}
    left: set[int] = set()
    for name, module in model.named_modules():
        own = {id(weight): weight.numel() for weight in module.parameters(recurse=False)}
        if not sum(own.values()):
            continue
        kind = type(module).__name__
        stays = kind not in SCHEMES[scheme].quantizes if is_whole else _stays_float32(quantized, name)
        parts[not stays].append(Part(name=name, kind=kind, weights=sum(own.values())))
        weights |= own
        if stays:
            left |= own.keys()
    total = sum(weights.values())
    share = 1 - sum(weights[weight] for weight in left) / total if total else 0.0
    return Coverage(quantized=tuple(parts[True]), float32=tuple(parts[False]), share=share)


def quantized_share(model: nn.Module, quantized: nn.Module, scheme: str) -> float:
    """Return the share of a model's weights that a scheme quantized. Arguments as for :func:`describe_coverage`."""
    return describe_coverage(model, quantized, scheme).share


def _stays_float32(quantized: nn.Module, name: str) -> bool:
    try:
        module = quantized.get_submodule(name)
    except AttributeError:
        return False
    if isinstance(module, Int8Module):  # its scales and biases are float32
        return False
    return any(weight.dtype is torch.float32 and weight.numel() for weight in module.parameters(recurse=False))


def _list_parts(parts: Iterable[Part]) -> str:
    """Return the parts by kind: their names, or how many there are if they are more than three."""
    names = defaultdict(list)
    for part in parts:
        names[part.kind].append(part.name or "itself")
    return ", ".join(f"{kind} {' '.join(of) if len(of) < 4 else f'({len(of)} modules)'}" for kind, of in names.items())
