"""ONNX Runtime as an engine: :class:`OnnxModel`, and :func:`to_onnx_model`, which makes one."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lstmq.errors import QuantizationError
from lstmq.model import EngineModel, Hidden, LSTMModel, ModelConfig
from lstmq.quantization.checks import check_float32
from lstmq.quantization.onnx import graph as graphs
from lstmq.quantization.onnx.graph import LOGITS, LOSS, STATE

MAX_GRAPH_BYTES = 2**31 - 2**24  # of weights. protobuf allows 2^31 for a graph; the rest is for its words.


def missing_packages() -> str:
    """Return what is not installed, and how it is; empty if all is here."""
    here = all(map(find_spec, ("onnx", "onnxruntime")))
    return "" if here else "ONNX Runtime: pip install 'lstmq[onnxruntime]'"


def to_onnx_model(model: LSTMModel, operators: Sequence[str] = ()) -> "OnnxModel":
    """Return a float32 model as a graph that ONNX Runtime runs.

    Args:
        model: float32.
        operators: keys of :data:`~lstmq.quantization.onnx.graph.INT8_OPERATORS` to quantize to int8.

    Raises:
        QuantizationError: if the model is not float32 or too large, or an operator would stay float32.
    """
    check_float32(model)
    if (size := sum(weight.nbytes for weight in model.parameters())) > MAX_GRAPH_BYTES:
        raise QuantizationError(f"a graph holds 2 GB at most, and the model has {size:,} bytes")
    graph = graphs.build_graph(model)
    return OnnxModel(
        (graphs.quantize_graph(graph, operators) if operators else graph).SerializeToString(), model.config
    )


class OnnxModel(EngineModel):
    """A graph with the inputs and outputs of :func:`lstmq.graph.build`, on as many threads as torch has.

    The graph's bytes are its only state: so it is weighed, copied and handed over as any other module is.
    """

    graph: Tensor

    def __init__(self, graph: bytes, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("graph", torch.frombuffer(bytearray(graph), dtype=torch.uint8))
        self._sessions: dict[str, Any] = {}
        self.eval()

    def __deepcopy__(self, memo: dict[int, object]) -> "OnnxModel":
        """Return a copy with weights of its own, in sessions of its own."""
        return OnnxModel(self.graph.numpy().tobytes(), self.config)

    def forward(self, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits and state, as :class:`~lstmq.LSTMModel` does."""
        return self._run(LOGITS, input, input, hidden)

    def window_loss(self, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the summed cross-entropy of a window, in nats, and the state after it; no logits leave the graph."""
        return self._run(LOSS, input, targets, hidden)

    def _run(self, wanted: str, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        if wanted not in self._sessions:
            self._sessions[wanted] = _session(self.graph.numpy().tobytes(), wanted)
        feeds = zip(graphs.INPUTS, (input, targets, *hidden), strict=True)
        out = self._sessions[wanted].run([wanted, *STATE], {name: tensor.numpy() for name, tensor in feeds})
        told, h, c = (torch.as_tensor(each) for each in out)
        return told, (h, c)


def _session(graph: bytes, wanted: str) -> Any:
    """Return a session that gives the loss or the logits, and the state.

    Logits among the outputs, even if not asked for, would cost the session of the loss 8 % of its time.
    """
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    model = onnx.load_from_string(graph)
    for output in [each for each in model.graph.output if each.name not in (wanted, *STATE)]:
        model.graph.output.remove(output)
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
