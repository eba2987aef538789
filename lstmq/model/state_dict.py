"""The state dict of an :class:`~lstmq.LSTMModel`: its names and shapes, and what another one may be."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from lstmq.model.checkpoint_file import CheckpointError, describe_content, list_keys
from lstmq.model.config import ModelConfig

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
ELSEWHERE = "measure other models with --workload FILE.py:FUNCTION"
RECURRENT = re.compile(r"(.*\.)?weight_hh_l0(_reverse)?")


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a model by its key."""
    shapes: dict[str, tuple[int, ...]] = {"encoder.weight": (config.ntoken, config.ninp)}
    for layer in range(config.nlayers):
        width = config.nhid if layer else config.ninp
        shapes[f"rnn.weight_ih_l{layer}"] = (4 * config.nhid, width)
        shapes[f"rnn.weight_hh_l{layer}"] = (4 * config.nhid, config.nhid)
        shapes[f"rnn.bias_ih_l{layer}"] = shapes[f"rnn.bias_hh_l{layer}"] = (4 * config.nhid,)
    return shapes | {"decoder.weight": (config.ntoken, config.nhid), "decoder.bias": (config.ntoken,)}


def plain_state(content: object) -> dict[str, Tensor]:
    """Return the content of a file if it is a state dict of plain tensors.

    Raises:
        CheckpointError: if it is something else.
    """
    if not isinstance(content, Mapping) or not all(map(_is_plain, content, content.values())):
        raise CheckpointError(f"expected a state dict of plain tensors, found {describe_content(content)}")
    return dict(content)


def strip_prefixes(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return a state dict without the prefixes that wrappers of torch give to every key, and what was removed."""
    removed = ""
    while prefix := next((prefix for prefix in PREFIXES if state and all(k.startswith(prefix) for k in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        removed += prefix
    return dict(state), removed


def infer_config(state: Mapping[str, Tensor], dropout: float) -> ModelConfig:
    """Return the config that the shapes of the tensors imply, but for whether the model is tied.

    Raises:
        CheckpointError: if the state dict is not that of an :class:`~lstmq.LSTMModel`.
    """
    if other := _other_network(state):
        raise CheckpointError(f"expected an LSTM as in the tutorial, found {other}: {ELSEWHERE}")
    ntoken, ninp = _matrix_shape(state, "encoder.weight")
    _, nhid = _matrix_shape(state, "decoder.weight")
    nlayers = sum(key.startswith("rnn.weight_ih_l") for key in state)
    if not nlayers:
        raise CheckpointError(f"expected LSTM layers from rnn.weight_ih_l0 on, found {list_keys(state)}: {ELSEWHERE}")
    return ModelConfig(ntoken=ntoken, ninp=ninp, nhid=nhid, nlayers=nlayers, dropout=dropout)


def is_tied(state: Mapping[str, Tensor]) -> bool:
    """Return whether embedding and decoder are one matrix, in a state dict whose tensors were checked.

    Copies count too: moving, casting or saving each tensor by itself ends the sharing of memory.
    """
    encoder, decoder = state["encoder.weight"], state["decoder.weight"]
    return encoder.dtype == decoder.dtype and torch.equal(encoder, decoder)


def check_tensors(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Check keys, shapes, dtypes and values before a model of this shape takes any memory.

    Raises:
        CheckpointError: if one is wrong.
    """
    expected = expected_shapes(config)
    if missing := sorted(expected.keys() - state.keys()):
        raise CheckpointError(f"missing {list_keys(missing)}")
    if extra := sorted(state.keys() - expected.keys()):
        raise CheckpointError(f"unexpected: {list_keys(extra)}: {ELSEWHERE}")
    for key, shape in expected.items():
        value = state[key]
        if tuple(value.shape) != shape:
            raise CheckpointError(f"expected shape {shape} for {key}, found {tuple(value.shape)}")
        if value.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise CheckpointError(f"expected float32, float16 or bfloat16 for {key}, found {value.dtype}")
        stored = value.untyped_storage().nbytes()  # less than its numbers take, if a stride is 0
        if value.nbytes > stored:
            raise CheckpointError(f"expected {value.nbytes:,} bytes for {key}, found {stored:,}")
        if not value.isfinite().all():
            raise CheckpointError(f"expected finite numbers in {key}, found NaN or infinity")


def _is_plain(key: object, value: object) -> bool:
    """Return whether this is a name and an ordinary tensor: not sparse or nested, and with its numbers in memory."""
    if not isinstance(key, str) or not isinstance(value, Tensor) or value.is_quantized:
        return False
    return value.layout == torch.strided and not value.is_nested and value.device.type == "cpu"


def _matrix_shape(state: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    if key not in state:
        below = next((name for name in state if name.endswith(f".{key}")), "")
        part = below.removesuffix(f".{key}")
        advice = f"save the state dict of the part {part} alone" if below else _advice(state, key)
        raise CheckpointError(f"expected the key {key}, found {list_keys([below] if below else state)}: {advice}")
    shape = tuple(state[key].shape)
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"expected a matrix for {key}, found shape {shape}")
    return shape


def _advice(state: Mapping[str, Tensor], key: str) -> str:
    if key == "decoder.weight" and "decoder.bias" in state:
        return "if it is tied to encoder.weight, save model.state_dict(), which has both"
    return f"rename the keys to the tutorial's, or {ELSEWHERE}"


def _other_network(state: Mapping[str, Tensor]) -> str:
    """Return what the recurrent layers are if they are not those of a plain LSTM, judging by names and shapes."""
    matrices = {key: value for key, value in state.items() if RECURRENT.fullmatch(key) and value.dim() == 2}
    gates = [value.shape[0] / value.shape[1] for value in matrices.values() if value.shape[1]]
    name = {3.0: "GRU", 1.0: "plain RNN"}.get(next(iter(gates), 4.0), "LSTM")
    kinds = (
        (any(key.endswith("_reverse") for key in matrices), f"a bidirectional {name}"),
        (any("weight_hr_l" in key for key in state), f"an {name} with projections"),
        (name != "LSTM", f"a {name}"),
        (bool(matrices) and not any(".bias_hh_l" in f".{key}" for key in state), "an LSTM without biases"),
    )
    return next((kind for found, kind in kinds if found), "")
