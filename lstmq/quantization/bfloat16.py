"""Models in bfloat16, and models compiled by torch.compile."""

import copy
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Collection
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lstmq.model import EngineModel, Hidden, LSTMModel, copy_module
from lstmq.quantization.checks import check_modules
from lstmq.text import map_tensors, summed_cross_entropy

ModelT = TypeVar("ModelT", bound=nn.Module)


def cast_to_bfloat16(model: ModelT, kept: Collection[str] = ()) -> ModelT:
    """Return a copy of a float32 model in bfloat16, in evaluation mode.

    Args:
        model: float32.
        kept: names of modules that stay float32. What they read and return is cast.

    Raises:
        QuantizationError: if the model contains no recurrent, linear or embedding module, or is not float32.
    """
    check_modules(model, (nn.LSTM, nn.GRU, nn.RNN, nn.RNNCellBase, nn.Linear, nn.Embedding), kept)
    quantized = copy_module(model).to(torch.bfloat16).eval()
    for name in kept:
        if name.rpartition(".")[0] not in kept:  # else its parent casts
            module = quantized.get_submodule(name).float()
            module.register_forward_pre_hook(_cast_inputs, with_kwargs=True)
            module.register_forward_hook(_cast_output)
    lstms = [name for name, module in quantized.named_modules() if isinstance(module, nn.LSTM) and name not in kept]
    if lstms and not _runs_lstm():
        for name in lstms:
            _WithoutMkldnn().register(quantized.get_submodule(name))
    return quantized


def _runs_lstm() -> bool:
    """Return whether torch computes an LSTM in bfloat16 as it is set.

    Some versions pass every LSTM to mkldnn, which refuses bfloat16 on a processor without AVX-512. Newer versions ask
    it first, and compute without it there.
    """
    zeros = torch.zeros(4, 1, dtype=torch.bfloat16)
    state = zeros[:1].unsqueeze(0)
    try:
        torch.lstm(state, (state, state), (zeros, zeros), False, 1, 0.0, False, False, False)
    except RuntimeError:
        return False
    return True


def _cast_inputs(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return cast(inputs, torch.float32), cast(named, torch.float32)


def _cast_output(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    return cast(output, torch.bfloat16)


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Return floating-point tensors, in any tuples, lists and dictionaries, in another dtype; the rest as it is."""
    return map_tensors(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, value)


def compile_in_bfloat16(model: LSTMModel) -> "CompiledModel":
    """Return a copy of a float32 model in bfloat16 that torch.compile compiles. Errors as for the cast."""
    return CompiledModel(cast_to_bfloat16(model))


def missing_instructions() -> str:
    """Return what makes bfloat16 fast and this processor does not have; empty if it has it, or torch cannot tell."""
    checks = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")  # old versions have only this
    is_slow = is_x86 and not (has_avx512 and (not all(checks) or any(check() for check in checks if check)))
    return "a processor with bfloat16 instructions to be faster than float32" if is_slow else ""


def missing_compiler() -> str:
    """Return what torch.compile needs and this machine does not have; empty if it has all."""
    default = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")  # torch's own choice
    command = shlex.split(os.environ.get("CXX") or default)
    return "" if shutil.which(command[0]) else f"a C++ compiler, {command[0]}, on the path"


class _WithoutMkldnn:
    """Hooks that switch mkldnn off while a module computes. The switch is one for the whole process."""

    def __init__(self) -> None:
        self._before = True

    def register(self, module: nn.Module) -> None:
        module.register_forward_pre_hook(self._switch_off)
        module.register_forward_hook(self._switch_back, always_call=True)

    def _switch_off(self, _module: nn.Module, _inputs: Any) -> None:
        self._before = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags does more, and warns

    def _switch_back(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        torch._C._set_mkldnn_enabled(self._before)


class CompiledModel(EngineModel):
    """An :class:`~lstmq.LSTMModel` in bfloat16 whose ``window_loss`` is compiled with its weights as constants.

    ``forward`` is not compiled. torch.compile runs when the model reads its first window, and again when it reads a
    window of another length.

    Args:
        model: bfloat16.
    """

    def __init__(self, model: LSTMModel) -> None:
        super().__init__()
        self.config = model.config
        self.model = model
        # The loss is compiled together with the model, so that the logits never leave the compiled code.
        self._compiled_loss = torch.compile(self._loss, options={"freezing": True})

    def __deepcopy__(self, memo: dict[int, object]) -> "CompiledModel":
        """Return a copy that compiles its own code."""
        return CompiledModel(copy.deepcopy(self.model, memo))

    def init_hidden(self, bsz: int) -> Hidden:
        """Return the zero state for ``bsz`` columns, bfloat16."""
        return self.model.init_hidden(bsz)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the logits and the state, as :class:`~lstmq.LSTMModel` does."""
        logits: tuple[Tensor, Hidden] = self.model(input, hidden)
        return logits

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the loss of one window and the state after it, as other language models do."""
        with torch._dynamo.config.patch(allow_rnn=True):  # by default, torch.compile does not compile an LSTM
            loss: tuple[Tensor, Hidden] = self._compiled_loss(input, targets, hidden)
        return loss

    def _loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        logits, hidden = self.model(input, hidden)
        return summed_cross_entropy(logits, targets), hidden
