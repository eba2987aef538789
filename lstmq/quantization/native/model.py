"""The int8-native engine: :func:`quantize_native` and :class:`NativeModel`."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lstmq.errors import QuantizationError
from lstmq.model import EngineModel, Hidden, LSTMModel, ModelConfig
from lstmq.quantization.checks import check_float32
from lstmq.quantization.native import reference
from lstmq.quantization.native.library import REFERENCE, selected_isa
from lstmq.quantization.native.packing import PackedModel
from lstmq.quantization.native.reference import quantize_rows
from lstmq.quantization.native.weights import check_width, state_spec, weights_from_state
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

    :func:`~lstmq.quantization.native.library.selected_isa` decides for every window what computes: a kernel, on one
    thread, or the reference. Kernels read packed weights; the first window packs them, as a second copy.

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
            module.register_buffer(buffer, state[name])
        self._packed: PackedModel | None = None
        self.register_load_state_dict_post_hook(_drop_packed)  # type: ignore[no-untyped-call] # torch's
        self.eval()

    def _apply(self, *args: Any, **kwargs: Any) -> "NativeModel":
        """Move or cast all tensors, as torch's ``to`` and ``half`` do; the packed copy is then out of date."""
        self._packed = None
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call] # torch's
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the model starts with: no packed weights, because they point into this model."""
        return self.__dict__ | {"_packed": None}

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits and state, as :class:`~lstmq.LSTMModel` does."""
        if (isa := selected_isa()) != REFERENCE:
            return self._pack().logits(isa, input, hidden)
        return reference.logits(weights_from_state(self.state_dict(), self.config), input, hidden)

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the summed cross-entropy of a window, in nats, and the state after it."""
        if (isa := selected_isa()) != REFERENCE:
            return self._pack().window_loss(isa, input, targets, hidden)
        logits, after = self(input, hidden)
        return summed_cross_entropy(logits, targets), after

    def _pack(self) -> PackedModel:
        if self._packed is None:
            self._packed = PackedModel(self.state_dict(), self.config)
        return self._packed


def _drop_packed(model: nn.Module, _keys: object) -> None:
    """Drop the packed weights of a model after ``load_state_dict``."""
    vars(model)["_packed"] = None
