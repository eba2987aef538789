"""The int8-native engine: :func:`quantize_native` and :class:`NativeModel`."""

from collections.abc import Iterator
from dataclasses import replace
from operator import is_
from typing import Any

from torch import Tensor, nn

from lstmq.errors import QuantizationError
from lstmq.model import EngineModel, Hidden, LSTMModel, ModelConfig
from lstmq.quantization.checks import check_float32
from lstmq.quantization.eager import check_eager, uncompiled
from lstmq.quantization.native import reference
from lstmq.quantization.native.library import REFERENCE, selected_isa
from lstmq.quantization.native.packing import PackedModel
from lstmq.quantization.native.reference import quantize_rows
from lstmq.quantization.native.weights import check_width, check_window, state_spec, weights_from_state
from lstmq.text import summed_cross_entropy


def quantize_native(model: LSTMModel) -> "NativeModel":
    """Return a copy of a model with every row of weights in int8.

    Raises:
        QuantizationError: if the weights are not float32, or not finite, or the model is too wide.
    """
    check_float32(model)
    check_width(model.config)
    weights = {name: weight.detach() for name, weight in model.state_dict().items()}
    if bad := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise QuantizationError(f"expected finite numbers in {bad[0]}, found NaN or infinity")
    config = replace(model.config, tied=model.is_tied)
    # Rows of the decoder are quantized as rows of the embedding are, so a tied model has one int8 matrix for both.
    sources = {"encoder": "encoder.weight"} | ({} if config.tied else {"decoder": "decoder.weight"})
    state = {"decoder.bias": weights["decoder.bias"].clone()}
    for i in range(config.nlayers):
        sources |= {f"layers.{i}.input": f"rnn.weight_ih_l{i}", f"layers.{i}.recurrent": f"rnn.weight_hh_l{i}"}
        state[f"layers.{i}.input.bias"] = weights[f"rnn.bias_ih_l{i}"] + weights[f"rnn.bias_hh_l{i}"]
    for name, source in sources.items():
        state[f"{name}.weight"], state[f"{name}.scale"] = quantize_rows(weights[source])
    return NativeModel(config, state)


class NativeModel(EngineModel):
    """A language model whose state dict holds int8 tensors, a float32 scale for each of their rows, and float32 biases.

    :func:`~lstmq.quantization.native.library.selected_isa` decides for every window what computes: a kernel or the
    reference. A kernel shares the columns of a window over ``torch.get_num_threads()`` threads. Kernels read packed
    weights: the first window packs them, as a second copy, and so does a window after a change of the weights.

    The kernels run outside of torch. So torch cannot compile, export or trace this model: that is an error.

    Args:
        config: the shape of the model.
        state: tensors as :func:`~lstmq.quantization.native.weights.state_spec` lists them. They are not copied.
    """

    def __init__(self, config: ModelConfig, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        for name in state_spec(config):
            *path, buffer = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            # torch does not count changes of inference tensors, so packed weights could be out of date.
            module.register_buffer(buffer, state[name].clone() if state[name].is_inference() else state[name])
        self._packed: PackedModel | None = None
        self._members: Members | None = None  # what was packed
        self.eval()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the model starts with: no packed weights, because they are a copy of this model's."""
        return self.__dict__ | {"_packed": None, "_members": None}

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits and state, as :class:`~lstmq.LSTMModel` does."""
        check_eager("int8-native")
        with uncompiled():
            if (isa := selected_isa()) != REFERENCE:
                return self._pack().logits(isa, input, hidden)
            check_window(self.config, input, hidden)
            return reference.logits(weights_from_state(self.state_dict(), self.config), input, hidden)

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the summed cross-entropy of a window, in nats, and the state after it."""
        check_eager("int8-native")
        with uncompiled():
            if (isa := selected_isa()) != REFERENCE:
                return self._pack().window_loss(isa, input, targets, hidden)
        logits, after = self(input, hidden)
        return summed_cross_entropy(logits, targets), after

    def _pack(self) -> PackedModel:
        """Return the packed weights, packed again if a tensor was changed or replaced."""
        packed, members = self._packed, self._members
        if packed and members and members.are_in_place() and packed.is_copy_of(members.tensors, self.config):
            return packed
        self._packed = PackedModel(self.state_dict(keep_vars=True), self.config)
        self._members = Members(self)
        return self._packed


class Members:
    """The tensors and modules of a module, and where they were. To look there again takes a few microseconds.

    Args:
        module: with at least one tensor.

    Attributes:
        tensors: those of the module and of the modules in it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._dictionaries, self._names, self._members = zip(*_members(module), strict=True)
        self.tensors = [member for member in self._members if isinstance(member, Tensor)]

    def are_in_place(self) -> bool:
        """Return whether each of them is still where it was."""
        return all(map(is_, map(dict.get, self._dictionaries, self._names), self._members))


def _members(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Yield the tensors and modules of a module, each after the dictionary that holds it and its name there."""
    for name, tensor in module._buffers.items():
        yield module._buffers, name, tensor
    for name, child in module._modules.items():
        yield module._modules, name, child
        yield from _members(child) if child else ()
