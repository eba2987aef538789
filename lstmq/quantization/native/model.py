"""Int8 of our own as an engine: :class:`NativeModel`, plain int8 tensors that kernels read, or the reference."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmq.errors import QuantizationError
from lstmq.model import EngineModel, Hidden, LSTMModel, ModelConfig
from lstmq.quantization.checks import check_float32
from lstmq.quantization.native import kernels, reference
from lstmq.quantization.native.kernels import MAX_COLUMNS, REFERENCE, PackedModel
from lstmq.quantization.native.reference import LSTMLayer, QuantizedRows, quantize_rows


def quantize_native(model: LSTMModel) -> "NativeModel":
    """Return a model of the same weights, each row in int8.

    Raises:
        QuantizationError: if the model is not float32, not finite, or too wide.
    """
    check_float32(model)
    if (width := max(model.config.ninp, model.config.nhid)) > MAX_COLUMNS:
        raise QuantizationError(f"expected at most {MAX_COLUMNS:,} columns, found {width:,}")
    given = {name: weight.detach() for name, weight in model.state_dict().items()}
    if bad := [name for name, weight in given.items() if not weight.isfinite().all()]:
        raise QuantizationError(f"expected finite numbers in {bad[0]}, found NaN or infinity")
    sources = {"encoder": ("encoder.weight", None), "decoder": ("decoder.weight", given["decoder.bias"])}
    for i in range(model.config.nlayers):
        bias = given[f"rnn.bias_ih_l{i}"] + given[f"rnn.bias_hh_l{i}"]
        sources |= {f"layers.{i}.input": (f"rnn.weight_ih_l{i}", bias)}
        sources |= {f"layers.{i}.recurrent": (f"rnn.weight_hh_l{i}", None)}
    state = {}
    for name, (source, bias) in sources.items():
        state[f"{name}.weight"], state[f"{name}.scale"] = quantize_rows(given[source])
        state |= {} if bias is None else {f"{name}.bias": bias.clone()}
    return NativeModel(model.config, state)


def state_spec(config: ModelConfig) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return dtype and shape of all that a :class:`NativeModel` holds, by its name in the state dict."""
    gates = 4 * config.nhid
    heights = {"encoder": (config.ntoken, config.ninp, False)}
    for i in range(config.nlayers):
        heights[f"layers.{i}.input"] = (gates, config.nhid if i else config.ninp, True)
        heights[f"layers.{i}.recurrent"] = (gates, config.nhid, False)
    heights["decoder"] = (config.ntoken, config.nhid, True)
    result: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for name, (height, width, biased) in heights.items():
        result |= {f"{name}.weight": (torch.int8, (height, width)), f"{name}.scale": (torch.float32, (height,))}
        result |= {f"{name}.bias": (torch.float32, (height,))} if biased else {}
    return result


class NativeModel(EngineModel):
    """A language model whose state is plain int8 tensors, their rows' float32 scales, and float32 biases.

    What computes is chosen at every window, as :func:`lstmq.kernels.chosen` says; kernels keep to one thread. They read
    weights in an order of their own, of which there is a second copy from the first window on.

    Args:
        config: the shape.
        state: as :func:`shapes` has it; kept, not copied.
    """

    def __init__(self, config: ModelConfig, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        for name in state_spec(config):
            *path, last = name.split(".")
            module: nn.Module = self
            for step in path:
                if step not in module._modules:
                    module.add_module(step, nn.Module())
                module = module.get_submodule(step)
            module.register_buffer(last, state[name])
        self._packed: PackedModel | None = None
        self.register_load_state_dict_post_hook(_drop_packed)  # type: ignore[no-untyped-call] # torch's
        self.eval()

    def _apply(self, *how: Any, **also: Any) -> "NativeModel":
        """Do what ``to`` and its like do to all tensors, of which what is packed knows nothing."""
        self._packed = None
        super()._apply(*how, **also)  # type: ignore[no-untyped-call] # torch's
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied: not where this one's packed weights lie."""
        return self.__dict__ | {"_packed": None}

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits and state, as :class:`~lstmq.LSTMModel` does."""
        if (isa := kernels.selected_isa()) != REFERENCE:
            return self._pack().logits(isa, input, hidden)
        encoder, layers, decoder, bias = self._weights()
        read, after = reference.run_layers(encoder, layers, input, hidden)
        logits = reference.matmul(read, decoder) + bias
        return logits.view(*input.shape, -1), after

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the summed cross-entropy of a window, in nats, and the state after it; logits stay in the cache."""
        if (isa := kernels.selected_isa()) != REFERENCE:
            return self._pack().window_loss(isa, input, targets, hidden)
        logits, after = self(input, hidden)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"), after

    def _pack(self) -> PackedModel:
        if self._packed is None:
            self._packed = PackedModel(self.config, *self._weights())
        return self._packed

    def _weights(self) -> tuple[QuantizedRows, list[LSTMLayer], QuantizedRows, Tensor]:
        """Return the embedding, the layers, the decoder and its bias."""
        of = self.state_dict()

        def rows(name: str) -> QuantizedRows:
            return QuantizedRows(of[f"{name}.weight"], of[f"{name}.scale"])

        layers = [
            LSTMLayer(rows(f"layers.{i}.input"), rows(f"layers.{i}.recurrent"), of[f"layers.{i}.input.bias"])
            for i in range(self.config.nlayers)
        ]
        return rows("encoder"), layers, rows("decoder"), of["decoder.bias"]


def _drop_packed(model: nn.Module, _keys: object) -> None:
    """Drop the packed weights of a model that was given others."""
    vars(model)["_packed"] = None
