"""Reads the weights that a float32 module computes with, also if something computes them from others."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lstmq.errors import QuantizationError

PARTS = {  # torch's names of weights, without suffixes, by the name of the class
    "Linear": ("weight", "bias"),
    "Embedding": ("weight",),
    "LSTMCell": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    "GRUCell": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
}


def original_type(module: nn.Module) -> type[nn.Module]:
    """Return the type of a module before torch's parametrizations gave it another."""
    return parametrize.type_before_parametrizations(module)


def read_weights(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Return the weights and biases that a module computes with, by torch's names. A missing bias is left out.

    Weight norm, spectral norm and parametrizations are computed once: in evaluation mode they are constants.

    Args:
        name: of the module, for errors.
        module: in evaluation mode. Weights that a hook of torch computes are computed.

    Raises:
        QuantizationError: if what computes a weight does not give the same twice; if a weight is not a tensor of
            finite float32 numbers on the CPU; or if somebody replaced the module's forward.
    """
    if "forward" in vars(module):
        raise QuantizationError(f"{name}: its forward was replaced. To leave it in float32, pass keep=({name!r},)")
    with torch.no_grad():
        found, again = _compute(module), _compute(module)
    weights = {}
    for part, weight in found.items():
        if weight is None:
            continue
        _check(f"{name}.{part}" if name else part, weight)
        if not torch.equal(weight, again[part]):
            raise QuantizationError(
                f"{name}.{part}: computed twice, it differs. To leave it in float32, pass keep=({name!r},)"
            )
        weights[part] = weight
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        weights["weight"] = _limit_norms(module, weights["weight"])
    return weights


def _compute(module: nn.Module) -> dict[str, Any]:
    for hook in module._forward_pre_hooks.values():
        if computes_weight(hook):
            hook(module, ())
    if isinstance(module, nn.RNNBase):
        getattr(module, "_update_flat_weights", lambda: None)()  # since torch 2.1
        return dict(zip(module._flat_weights_names, module._flat_weights, strict=True))
    return {part: getattr(module, part, None) for part in PARTS[original_type(module).__name__]}


def computes_weight(hook: object) -> bool:
    """Return whether a hook is that of torch's weight norm or spectral norm, which set a weight before each call."""
    return type(hook).__name__ in ("WeightNorm", "SpectralNorm") and type(hook).__module__.startswith("torch.nn.utils")


def _check(name: str, weight: Tensor) -> None:
    if weight.dtype != torch.float32 or not weight.is_cpu or weight.layout != torch.strided:
        raise QuantizationError(f"{name} is {weight.dtype} on {weight.device}: expected float32 on the CPU")
    if not weight.isfinite().all():
        raise QuantizationError(f"expected finite numbers in {name}, found NaN or infinity")


def _limit_norms(module: nn.Embedding, weight: Tensor) -> Tensor:
    """Return the rows of an embedding with ``max_norm``, which torch scales down when it first reads them."""
    every = torch.arange(len(weight))
    return F.embedding(every, weight.detach().clone(), max_norm=module.max_norm, norm_type=module.norm_type)
