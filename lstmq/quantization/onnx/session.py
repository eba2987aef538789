"""Runs a language model in ONNX Runtime: :class:`OnnxModel`, and :func:`to_onnx_model`, which makes one."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lstmq.errors import QuantizationError
from lstmq.model import EngineModel, Hidden, LSTMModel, ModelConfig
from lstmq.quantization.checks import check_float32
from lstmq.quantization.eager import check_eager, uncompiled
from lstmq.quantization.onnx.graph import INPUTS, LOGITS, LOSS, STATE, build_graph, quantize_graph

# Of weights, in bytes. protobuf allows 2 GiB for a graph; the difference leaves room for the dictionary.
MAX_GRAPH_BYTES = 2**31 - 2**24


def missing_packages() -> str:
    """Return what is not installed and how to install it; empty if all is installed."""
    is_installed = all(map(find_spec, ("onnx", "onnxruntime")))
    return "" if is_installed else "ONNX Runtime: pip install 'lstmq[onnxruntime]'"


def to_onnx_model(model: LSTMModel, operators: Sequence[str] = ()) -> "OnnxModel":
    """Convert a float32 model to a graph that ONNX Runtime runs.

    Args:
        model: float32.
        operators: keys of :data:`~lstmq.quantization.onnx.graph.INT8_OPERATORS` to quantize to int8.

    Raises:
        QuantizationError: if the model is not float32 or too large, or an operator would stay float32.
    """
    check_float32(model)
    if (size := sum(weight.nbytes for weight in model.state_dict().values())) > MAX_GRAPH_BYTES:
        raise QuantizationError(f"a graph holds 2 GB at most, and the model has {size:,} bytes")
    proto = build_graph(model)
    if operators:
        proto = quantize_graph(proto, operators)
    return OnnxModel(proto.SerializeToString(), model.config)


class OnnxModel(EngineModel):
    """A graph in ONNX Runtime. It runs on as many threads as torch is set to when the first window is read.

    The serialized graph is the only state, as a buffer. So the model has a size, and can be copied and saved, like any
    other module.

    Args:
        graph: a serialized ``onnx.ModelProto`` with the inputs and outputs of
            :func:`~lstmq.quantization.onnx.graph.build_graph`.
        config: the shape of the model.
    """

    graph: Tensor

    def __init__(self, graph: bytes, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("graph", torch.frombuffer(bytearray(graph), dtype=torch.uint8))
        self._sessions: dict[str, Any] = {}
        self.eval()

    def __deepcopy__(self, memo: dict[int, object]) -> "OnnxModel":
        """Return a copy with its own weights and sessions."""
        return OnnxModel(self.graph.numpy().tobytes(), self.config)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the logits and the state, as :class:`~lstmq.LSTMModel` does."""
        return self._run(LOGITS, input, input, hidden)

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the loss of one window and the state after it, as other language models do."""
        return self._run(LOSS, input, targets, hidden)

    def _run(self, output: str, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        check_eager("ONNX Runtime")
        with uncompiled():
            if output not in self._sessions:
                self._sessions[output] = _open_session(self.graph.numpy().tobytes(), output)
            arrays = (tensor.numpy() for tensor in (input, targets, *hidden))
            results = self._sessions[output].run([output, *STATE], dict(zip(INPUTS, arrays, strict=True)))
            result, h, c = map(torch.as_tensor, results)
            return result, (h, c)


def _open_session(graph: bytes, output: str) -> Any:
    """Return a session that computes one output, the loss or the logits, and the state.

    The other output is removed from the graph: a session for the loss takes 8 % longer if the graph returns the logits
    too, even if the caller does not ask for them.
    """
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    proto = onnx.load_from_string(graph)
    outputs = [value for value in proto.graph.output if value.name in (output, *STATE)]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
