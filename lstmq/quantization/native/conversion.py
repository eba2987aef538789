"""Makes int8-native models: :func:`quantize_int8`, and :func:`quantize_modules`, which replaces modules."""

from collections.abc import Collection
from typing import cast

from torch import Tensor, nn

from lstmq.errors import QuantizationError
from lstmq.model import LSTMModel, copy_module
from lstmq.quantization.checks import check_modules, check_quantized
from lstmq.quantization.native.cells import Int8GRUCell, Int8LSTMCell
from lstmq.quantization.native.folding import computes_weight, original_type, read_weights
from lstmq.quantization.native.model import quantize_native
from lstmq.quantization.native.modules import Int8Embedding, Int8Linear, Int8Module
from lstmq.quantization.native.recurrent import Int8GRU, Int8LSTM, Int8RecurrentBase
from lstmq.quantization.native.reference import quantize_rows

TYPES = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.Linear, nn.Embedding)


def quantize_int8(model: nn.Module, kept: Collection[str] = ()) -> nn.Module:
    """Return a copy of a model in int8, but for modules that are kept in float32.

    A whole :class:`~lstmq.LSTMModel` becomes a :class:`NativeModel`, whose parts are faster together than one by one.
    Arguments and errors as for :func:`quantize_modules`.
    """
    if isinstance(model, LSTMModel) and not kept:
        return quantize_native(model)
    return quantize_modules(model, kept)


def quantize_modules(model: nn.Module, kept: Collection[str] = ()) -> nn.Module:
    """Return a copy of a float32 model with int8 weights, in evaluation mode. Its parameters need no gradients.

    Args:
        model: float32, with recurrent, linear or embedding modules, or one itself.
        kept: names of modules that stay float32.

    Raises:
        QuantizationError: if there is nothing to quantize; or if a recurrent module, or one of the types that are
            replaced, cannot be replaced and is not kept.
    """
    check_modules(model, TYPES, kept, may_be_root=True)
    check_limited_norms(model, kept)
    copied = copy_module(model).eval().requires_grad_(False)
    quantized = Converter(kept).convert("", copied)
    check_quantized(quantized, TYPES, kept)
    leave_fast_paths(quantized)
    return quantized


class Converter:
    """Replaces modules, and remembers what it made, so that shared modules and tied weights stay shared and tied.

    Args:
        kept: names of modules that stay float32.
    """

    def __init__(self, kept: Collection[str]) -> None:
        self._kept = kept
        self._modules: dict[int, tuple[nn.Module, nn.Module]] = {}  # by the identity of the float32 module
        self._rows: dict[int, tuple[Tensor, Tensor, nn.Parameter]] = {}  # by the identity of the float32 weight

    def convert(self, name: str, module: nn.Module) -> nn.Module:
        """Return the module that replaces a module, or the module itself, in which others are replaced.

        Args:
            name: in the model.
            module: float32. It belongs to us.
        """
        if name in self._kept:
            return module
        if id(module) not in self._modules:
            is_replaced = original_type(module) in TYPES
            self._modules[id(module)] = module, self._replace(name, module) if is_replaced else module
            if not is_replaced:
                for child_name, child in module._modules.items():
                    if child is not None:
                        module._modules[child_name] = self.convert(f"{name}.{child_name}".lstrip("."), child)
        return self._modules[id(module)][1]

    def _replace(self, name: str, module: nn.Module) -> Int8Module:
        weights = read_weights(name, module)
        try:
            replacement = make_empty(module)
        except QuantizationError as error:
            raise QuantizationError(f"{name}: {error}") from None
        for part, weight in weights.items():
            if part.startswith("weight"):
                replacement.set_rows(part, *self._quantize(weight))
            elif isinstance(replacement, Int8Linear):
                replacement.set_floats(part, weight)
            elif isinstance(replacement, Int8RecurrentBase) and part.startswith("bias_ih"):
                suffix = part.removeprefix("bias_ih")
                replacement.set_biases(suffix, weight, weights[f"bias_hh{suffix}"])
        _keep_attributes(module, replacement)
        return replacement

    def _quantize(self, weight: Tensor) -> tuple[Tensor, nn.Parameter]:
        if id(weight) not in self._rows:
            integers, scale = quantize_rows(weight.detach())
            # The weight is kept too, because another one could get its identity.
            self._rows[id(weight)] = weight, integers, nn.Parameter(scale, requires_grad=False)
        return self._rows[id(weight)][1:]


def make_empty(module: nn.Module) -> Int8Module:
    """Return a module of zeros of the same shape and with the same options.

    Args:
        module: of one of :data:`TYPES`.

    Raises:
        QuantizationError: if the module is too wide.
    """
    if isinstance(module, nn.Linear):
        return Int8Linear(module.in_features, module.out_features, module.bias is not None)
    if isinstance(module, nn.Embedding):
        return Int8Embedding(module.num_embeddings, module.embedding_dim, module.padding_idx)
    if isinstance(module, nn.RNNCellBase):
        cell = Int8LSTMCell if isinstance(module, nn.LSTMCell) else Int8GRUCell
        return cell(module.input_size, module.hidden_size, module.bias)
    module = cast("nn.RNNBase", module)
    options = (module.num_layers, module.bias, module.batch_first, module.dropout, module.bidirectional)
    if isinstance(module, nn.GRU):
        return Int8GRU(module.input_size, module.hidden_size, *options)
    return Int8LSTM(module.input_size, module.hidden_size, *options, module.proj_size)


def _keep_attributes(module: nn.Module, replacement: Int8Module) -> None:
    """Give the replacement the hooks of the user, and the attributes that it does not have."""
    for name in ("_forward_pre_hooks", "_forward_hooks"):
        for key, hook in getattr(module, name).items():
            if not computes_weight(hook):
                getattr(replacement, name)[key] = hook
    for name in ("_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"):
        getattr(replacement, name).update(getattr(module, name))
    for name, value in vars(module).items():
        if not name.startswith("_") and not isinstance(value, Tensor) and not hasattr(replacement, name):
            setattr(replacement, name, value)


def check_limited_norms(model: nn.Module, kept: Collection[str]) -> None:
    """Check that no tied embedding has ``max_norm``, because reading one changes the weights of other modules.

    Raises:
        QuantizationError: if one does.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Embedding) or module.max_norm is None or name in kept:
            continue
        if sum(getattr(part, "weight", None) is module.weight for part in model.modules()) > 1:
            raise QuantizationError(f"{name}: an embedding with max_norm and tied weights cannot be quantized")


def leave_fast_paths(model: nn.Module) -> None:
    """Let torch's transformers call their linear layers. In their fast paths, they read the weights instead."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
