"""A language model as an ONNX graph: :func:`build_graph`, and :func:`quantize_graph`, which makes it int8.

The graph is built by hand instead of by torch's exporter, so that it is the same with every version of torch. ONNX's
operator specification says what the operators compute and in which order an LSTM has its gates.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lstmq.errors import QuantizationError
from lstmq.model import LSTMModel, ModelConfig

OPSET, IR = 17, 8  # the newest that onnxruntime 1.17 reads
INPUTS = ("input", "targets", "hidden", "cell")
LOSS, LOGITS, STATE = "loss", "logits", ("hidden_out", "cell_out")
INT8_OPERATORS = {"LSTM": "DynamicQuantizeLSTM", "MatMul": "MatMulInteger", "Gather": "DequantizeLinear"}
"""For each operator that can be quantized, its int8 version."""
OPERATORS = frozenset(
    {"Add", "Cast", "Concat", "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeLinear", "Gather"}
    | {"GatherElements", "LSTM", "LogSoftmax", "MatMul", "MatMulInteger", "Mul", "Neg", "ReduceSum", "Split", "Squeeze"}
    | {"Unsqueeze"}
)
"""All operators that the graphs of this module contain."""


def build_graph(model: LSTMModel) -> Any:
    """Return an ``onnx.ModelProto`` of a float32 model.

    Inputs:

    * ``input`` and ``targets``: int64 ids, shape ``(n, bsz)``;
    * ``hidden`` and ``cell``: the state before the window, float32, shape ``(nlayers, bsz, nhid)``.

    Outputs:

    * ``loss``: the cross-entropy summed over the targets, in nats, a float32 scalar;
    * ``logits``: float32, shape ``(n, bsz, ntoken)``;
    * ``hidden_out`` and ``cell_out``: the state after the window.
    """
    from onnx import helper, numpy_helper

    weights = {name: weight.numpy(force=True) for name, weight in model.state_dict().items()}
    layers, nodes = range(model.config.nlayers), []
    constants = {"encoder": weights["encoder.weight"], "direction_axis": np.array([1]), "word_axis": np.array([2])}

    def node(operator: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any) -> None:
        nodes.append(helper.make_node(operator, [*inputs], [*outputs], **attributes))

    node("Gather", ["encoder", "input"], ["layer_0"])  # (n, bsz, ninp)
    node("Split", ["hidden"], [f"h_{i}" for i in layers], axis=0)
    node("Split", ["cell"], [f"c_{i}" for i in layers], axis=0)
    for i in layers:
        constants[f"W_{i}"] = to_onnx_gate_order(weights[f"rnn.weight_ih_l{i}"])
        constants[f"R_{i}"] = to_onnx_gate_order(weights[f"rnn.weight_hh_l{i}"])
        biases = [to_onnx_gate_order(weights[f"rnn.bias_{side}_l{i}"]) for side in ("ih", "hh")]
        constants[f"B_{i}"] = np.concatenate(biases, axis=1)
        inputs = [f"layer_{i}", f"W_{i}", f"R_{i}", f"B_{i}", "", f"h_{i}", f"c_{i}"]
        node("LSTM", inputs, [f"steps_{i}", f"h_out_{i}", f"c_out_{i}"], hidden_size=model.config.nhid)
        node("Squeeze", [f"steps_{i}", "direction_axis"], [f"layer_{i + 1}"])  # (n, 1, bsz, nhid) to (n, bsz, nhid)
    for output, state in zip(STATE, "hc", strict=True):
        node("Concat", [f"{state}_out_{i}" for i in layers], [output], axis=0)
    constants["decoder"], constants["bias"] = weights["decoder.weight"].T, weights["decoder.bias"]
    node("MatMul", [f"layer_{len(layers)}", "decoder"], ["products"])
    node("Add", ["products", "bias"], [LOGITS])  # (n, bsz, ntoken)
    # ReduceLogSumExp minus the target's logit would give the same loss, at 40 % of the speed.
    node("LogSoftmax", [LOGITS], ["log_p"], axis=-1)
    node("Unsqueeze", ["targets", "word_axis"], ["target_columns"])  # (n, bsz, 1)
    node("GatherElements", ["log_p", "target_columns"], ["target_log_p"], axis=2)
    node("Neg", ["target_log_p"], ["nats"])
    node("ReduceSum", ["nats"], [LOSS], keepdims=0)

    graph = helper.make_graph(nodes, "lstm_language_model", *graph_signature(model.config))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    # Added last, because make_graph and make_model copy what they are given.
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(constant), name) for name, constant in constants.items()
    )
    return proto


def to_onnx_gate_order(gates: np.ndarray) -> np.ndarray:
    """Reorder the gates of weights or biases from torch's order i, f, c, o to ONNX's order i, o, f, c.

    Args:
        gates: shape ``(4 * nhid, ...)``.

    Returns:
        Shape ``(1, 4 * nhid, ...)``: ONNX has a first axis for the directions of an LSTM.
    """
    i, f, c, o = np.split(gates, 4)
    return np.concatenate([i, o, f, c])[np.newaxis]


def graph_signature(config: ModelConfig) -> tuple[list[Any], list[Any]]:
    """Return the inputs and the outputs of a graph, each as an ``onnx.ValueInfoProto``."""
    from onnx import TensorProto
    from onnx.helper import make_tensor_value_info as value_info

    ids: list[str | int | None] = ["n", "bsz"]
    state: list[str | int | None] = [config.nlayers, "bsz", config.nhid]
    inputs = [value_info(name, TensorProto.INT64, ids) for name in INPUTS[:2]]
    inputs += [value_info(name, TensorProto.FLOAT, state) for name in INPUTS[2:]]
    outputs = [value_info(LOSS, TensorProto.FLOAT, []), value_info(LOGITS, TensorProto.FLOAT, [*ids, config.ntoken])]
    return inputs, outputs + [value_info(name, TensorProto.FLOAT, state) for name in STATE]


def quantize_graph(proto: Any, operators: Sequence[str]) -> Any:
    """Return a copy of a graph with operators quantized by ONNX Runtime.

    The quantization is dynamic: weights become int8 once, with one scale for a whole matrix, and activations become 8
    bits each time the graph runs.

    Args:
        proto: from :func:`build_graph`.
        operators: keys of :data:`INT8_OPERATORS`.

    Raises:
        QuantizationError: if ONNX Runtime leaves one of the operators in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # This entry says that the graph was preprocessed. It needs no preprocessing, and without the entry, ONNX Runtime
    # would warn.
    onnx.helper.set_model_props(proto, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with TemporaryDirectory(prefix="lstmq-") as folder:
        before, after = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(proto, before)
        # Signed weights, because products with unsigned ones take 50 % longer.
        quantize_dynamic(
            before, after, op_types_to_quantize=[*operators], weight_type=QuantType.QInt8, per_channel=False
        )
        quantized = onnx.load(after)
    _check_quantized(quantized.graph, operators)
    return quantized


def _check_quantized(graph: Any, operators: Sequence[str]) -> None:
    """Check that the int8 version of each operator is in the graph, and that none has a float32 matrix."""
    from onnx import TensorProto

    found = {node.op_type for node in graph.node}
    matrices = {array.name for array in graph.initializer if array.data_type == TensorProto.FLOAT and array.dims[1:]}
    for operator in operators:
        is_left = any(node.op_type == operator and matrices.intersection(node.input) for node in graph.node)
        if is_left or INT8_OPERATORS[operator] not in found:
            raise QuantizationError(
                f"ONNX Runtime's quantization left {operator} in float32, expected {INT8_OPERATORS[operator]}"
            )
