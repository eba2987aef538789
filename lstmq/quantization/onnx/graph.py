"""The language model as an ONNX graph, built node by node: :func:`build`; and in int8: :func:`in_int8`.

It is built by hand, rather than by an exporter, so that it is the same under every version of torch. What the
operators compute, and the order of the LSTM's gates, is ONNX's own specification.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lstmq.errors import QuantizationError
from lstmq.model import LSTMModel, ModelConfig

OPSET, IR = 17, 8  # which onnxruntime 1.17 and later read
INPUTS = ("input", "targets", "hidden", "cell")
LOSS, LOGITS, STATE = "loss", "logits", ("hidden_out", "cell_out")
OPERATORS = frozenset(
    {"Add", "Cast", "Concat", "DequantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "Gather"}
    | {"GatherElements", "LSTM", "LogSoftmax", "MatMul", "MatMulInteger", "Mul", "Neg", "ReduceSum", "Split", "Squeeze"}
    | {"Unsqueeze"}
)  # all that a graph of this module's is made of
INT8_OPERATORS = {
    "LSTM": "DynamicQuantizeLSTM",
    "MatMul": "MatMulInteger",
    "Gather": "DequantizeLinear",
}  # float, and in int8


def build_graph(model: LSTMModel) -> Any:
    """Return an ``onnx.ModelProto`` of a float32 model.

    Its inputs are ``input`` and ``targets``, int64, shape ``(n, bsz)``, and ``hidden`` and ``cell``, float32, shape
    ``(nlayers, bsz, nhid)``. Its outputs are ``loss``, the cross-entropy summed over the targets, in nats, a float32
    scalar; ``logits``, float32, shape ``(n, bsz, ntoken)``; and the state after the last step.
    """
    from onnx import helper, numpy_helper

    weights = {name: weight.numpy(force=True) for name, weight in model.state_dict().items()}
    layers, nodes = range(model.config.nlayers), []
    constants = {"encoder": weights["encoder.weight"], "directions": np.array([1]), "words": np.array([2])}

    def node(kind: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, [*inputs], [*outputs], **attributes))

    node("Gather", ["encoder", "input"], ["layer_0"])  # (n, bsz, ninp)
    node("Split", ["hidden"], [f"h_{i}" for i in layers], axis=0)
    node("Split", ["cell"], [f"c_{i}" for i in layers], axis=0)
    for i in layers:
        constants[f"W_{i}"], constants[f"R_{i}"] = (
            to_onnx_gate_order(weights[f"rnn.weight_{of}_l{i}"]) for of in ("ih", "hh")
        )
        biases = [to_onnx_gate_order(weights[f"rnn.bias_{of}_l{i}"]) for of in ("ih", "hh")]
        constants[f"B_{i}"] = np.concatenate(biases, axis=1)
        inputs = [f"layer_{i}", f"W_{i}", f"R_{i}", f"B_{i}", "", f"h_{i}", f"c_{i}"]
        node("LSTM", inputs, [f"steps_{i}", f"h_out_{i}", f"c_out_{i}"], hidden_size=model.config.nhid)
        node("Squeeze", [f"steps_{i}", "directions"], [f"layer_{i + 1}"])  # (n, 1, bsz, nhid) to (n, bsz, nhid)
    for out, state in zip(STATE, "hc", strict=True):
        node("Concat", [f"{state}_out_{i}" for i in layers], [out], axis=0)
    constants["decoder"], constants["bias"] = weights["decoder.weight"].T, weights["decoder.bias"]
    node("MatMul", [f"layer_{len(layers)}", "decoder"], ["products"])
    node("Add", ["products", "bias"], [LOGITS])  # (n, bsz, ntoken)
    # ReduceLogSumExp less the target's logit would say the same, at 40 % of the speed.
    node("LogSoftmax", [LOGITS], ["log_p"], axis=-1)
    node("Unsqueeze", ["targets", "words"], ["places"])  # (n, bsz, 1)
    node("GatherElements", ["log_p", "places"], ["of_targets"], axis=2)
    node("Neg", ["of_targets"], ["nats"])
    node("ReduceSum", ["nats"], [LOSS], keepdims=0)

    initializers = [numpy_helper.from_array(np.ascontiguousarray(each), name) for name, each in constants.items()]
    graph = helper.make_graph(nodes, "lstm_language_model", *graph_signature(model.config))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    made.graph.initializer.extend(initializers)  # not before: each helper copies what it is given
    return made


def to_onnx_gate_order(gates: np.ndarray) -> np.ndarray:
    """Return weights or biases in ONNX's order of gates, one direction of them: i, o, f, c. Torch's is i, f, c, o."""
    i, f, c, o = np.split(gates, 4)
    return np.concatenate([i, o, f, c])[np.newaxis]


def graph_signature(config: ModelConfig) -> tuple[list[Any], list[Any]]:
    """Return what goes into a graph and what comes out, each an ``onnx.ValueInfoProto``."""
    from onnx import TensorProto
    from onnx.helper import make_tensor_value_info as value

    ids: list[str | int | None] = ["n", "bsz"]
    state: list[str | int | None] = [config.nlayers, "bsz", config.nhid]
    inputs = [value(name, TensorProto.INT64, ids) for name in INPUTS[:2]]
    inputs += [value(name, TensorProto.FLOAT, state) for name in INPUTS[2:]]
    outputs = [value(LOSS, TensorProto.FLOAT, []), value(LOGITS, TensorProto.FLOAT, [*ids, config.ntoken])]
    return inputs, outputs + [value(name, TensorProto.FLOAT, state) for name in STATE]


def quantize_graph(graph: Any, kinds: Sequence[str]) -> Any:
    """Return a graph with operators quantized by ONNX Runtime.

    Weights become int8, with one scale for all of a matrix; activations are quantized as they come, to 8 bits.

    Args:
        graph: of :func:`build`.
        kinds: operators, keys of :data:`INT8`.

    Raises:
        QuantizationError: if one of them stayed float.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Its mark of a graph that is ready to be quantized, as this one is made; without it, a warning would ask for that.
    onnx.helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with TemporaryDirectory(prefix="lstmq-") as folder:
        before, after = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(graph, before)
        # Signed: products with unsigned weights take half as long again.
        quantize_dynamic(before, after, op_types_to_quantize=[*kinds], weight_type=QuantType.QInt8, per_channel=False)
        quantized = onnx.load(after)
    _check(quantized.graph, kinds)
    return quantized


def _check(graph: Any, kinds: Sequence[str]) -> None:
    """See that each kind is there in int8, and that no weight of it is there in float32."""
    from onnx import TensorProto

    operators = {node.op_type for node in graph.node}
    matrices = {each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT and len(each.dims) > 1}
    for kind in kinds:
        left = any(node.op_type == kind and matrices.intersection(node.input) for node in graph.node)
        if left or INT8_OPERATORS[kind] not in operators:
            raise QuantizationError(
                f"ONNX Runtime's quantization left {kind} in float32, expected {INT8_OPERATORS[kind]}"
            )
