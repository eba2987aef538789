"""What runs a recurrent module: float32 and int8 in torch, ONNX Runtime and OpenVINO, and int8-native.

:data:`ENGINES` has a function for each engine. It takes a module and an input, and returns a function that runs the
module once and returns its output. It returns ``None`` where the engine has nothing to offer for such a module.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import nncf
import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from lstmq import quantize

OPSET, IR = 17, 8
ONNX_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}  # where ONNX's i, o, f, c and z, r, h are among torch's gates
STATES = {"LSTM": ("h", "c"), "GRU": ("h",)}
Run = Callable[[], object]


def float32(module: nn.Module, x: Tensor, *state: Tensor) -> Run:
    return partial(module, x, *state)


def torch_ao(module: nn.Module, x: Tensor, *state: object) -> Run:
    kinds = {nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.Linear}
    # In a container, because it leaves a module that is the whole model as it is.
    with warnings.catch_warnings(category=UserWarning, action="ignore"):  # torch.ao is deprecated
        (quantized,) = torch.ao.quantization.quantize_dynamic(nn.Sequential(module), kinds)
    return partial(quantized, x, *state)


def int8_native(module: nn.Module, x: Tensor, *state: object) -> Run:
    return partial(quantize(module, "int8-native"), x, *state)


def ort_float32(module: nn.Module, x: Tensor) -> Run:
    return run_in_ort(build_graph(module).SerializeToString(), feed(module, x))


def ort_int8(module: nn.Module, x: Tensor) -> Run | None:
    if not isinstance(module, nn.LSTM):
        return None  # it has no GRU in int8
    graph = build_graph(module)
    helper.set_model_props(
        graph, {"onnx.quant.pre_process": "onnxruntime.quant"}
    )  # else it warns; there is nothing to do
    with TemporaryDirectory() as folder:
        before, after = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(graph, before)
        quantize_dynamic(before, after, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8)
        quantized = after.read_bytes()
    if "DynamicQuantizeLSTM" not in {node.op_type for node in onnx.load_from_string(quantized).graph.node}:
        raise ValueError("expected ONNX Runtime to quantize the LSTM, and it did not")
    return run_in_ort(quantized, feed(module, x))


def run_in_ort(graph: bytes, inputs: dict[str, np.ndarray]) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return partial(session.run, ["y"], inputs)


def openvino_float32(module: nn.Module, x: Tensor) -> Run:
    inputs = feed(module, x)
    return run_in_openvino(read_in_openvino(module, inputs), inputs)[0]


def openvino_int8(module: nn.Module, x: Tensor) -> Run | None:
    """Quantize weights and activations with NNCF, with the scales of the input that is timed."""
    if not isinstance(module, nn.LSTM):
        return None  # NNCF leaves a GRU as it is
    nncf.set_log_level(logging.ERROR)
    inputs = feed(module, x)
    generator = np.random.default_rng(0)
    others = {name: generator.uniform(-1, 1, inputs[name].shape).astype(np.float32) for name in states(module)}
    with redirect_stdout(sys.stderr):  # where NNCF's progress bars do not get into the tables
        quantized = nncf.quantize(read_in_openvino(module, inputs), nncf.Dataset([inputs, inputs | others]))
    run, precisions = run_in_openvino(quantized, inputs)
    return run if precisions & {"i8", "u8"} else None  # some processors have no LSTM in int8


def read_in_openvino(module: nn.Module, inputs: dict[str, np.ndarray]) -> openvino.Model:
    model = openvino.Core().read_model(build_graph(module).SerializeToString())
    model.reshape({name: [*array.shape] for name, array in inputs.items()})  # it is faster where it knows the shapes
    return model


def run_in_openvino(model: openvino.Model, inputs: dict[str, np.ndarray]) -> tuple[Run, set[str]]:
    """Return what runs a model, and the precisions in which its recurrent layers compute."""
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", options)
    details = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    precisions = {str(detail["runtimePrecision"].value) for detail in details if detail["layerType"].value == "RNNSeq"}
    request = compiled.create_infer_request()
    return lambda: [*request.infer(inputs, share_inputs=True).values()], precisions


def build_graph(module: nn.Module) -> onnx.ModelProto:
    """Return the ONNX graph of an ``nn.LSTM`` or ``nn.GRU``, which reads ``x`` and states, and returns ``y``."""
    nodes, constants = [], [numpy_helper.from_array(np.array([0, 0, -1]), "shape")]
    suffixes = ("", "_reverse")[: 1 + module.bidirectional]
    options = {"linear_before_reset": 1} if module.mode == "GRU" else {}
    if module.bidirectional:
        options["direction"] = "bidirectional"
    for i in range(module.num_layers):

        def stacked(name: str, layer: int = i) -> np.ndarray:
            found = (module.get_parameter(f"{name}_l{layer}{suffix}").detach().numpy() for suffix in suffixes)
            return np.stack([reorder(module.mode, weight) for weight in found])

        biases = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], 1)
        for name, array in (("W", stacked("weight_ih")), ("R", stacked("weight_hh")), ("B", biases)):
            constants.append(numpy_helper.from_array(array, f"{name}_{i}"))
        first, last = "x" if i == 0 else f"y_{i}", "y" if i == module.num_layers - 1 else f"y_{i + 1}"
        inputs = [first, f"W_{i}", f"R_{i}", f"B_{i}", "", *(f"{state}_{i}" for state in STATES[module.mode])]
        nodes.append(helper.make_node(module.mode, inputs, [f"steps_{i}"], hidden_size=module.hidden_size, **options))
        nodes.append(helper.make_node("Transpose", [f"steps_{i}"], [f"rows_{i}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"rows_{i}", "shape"], [last]))
    shapes = {"x": ["n", "b", module.input_size], "y": ["n", "b", len(suffixes) * module.hidden_size]}
    shapes |= {name: [len(suffixes), "b", module.hidden_size] for name in states(module)}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    output = values.pop("y")
    graph = helper.make_graph(nodes, "recurrent", [*values.values()], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def states(module: nn.Module) -> list[str]:
    """Return the names of the states of all layers."""
    return [f"{state}_{i}" for i in range(module.num_layers) for state in STATES[module.mode]]


def feed(module: nn.Module, x: Tensor) -> dict[str, np.ndarray]:
    """Return the inputs of a graph: the states are zero."""
    zeros = np.zeros((1 + module.bidirectional, x.shape[1], module.hidden_size), np.float32)
    return {"x": x.numpy(), **dict.fromkeys(states(module), zeros)}


def reorder(kind: str, weight: np.ndarray) -> np.ndarray:
    """Return a weight or a bias with its gates in ONNX's order."""
    gates = np.split(weight, len(ONNX_GATES[kind]))
    return np.concatenate([gates[i] for i in ONNX_GATES[kind]])


ENGINES = {
    "float32": float32,
    "torch.ao int8": torch_ao,
    "ORT float32": ort_float32,
    "ORT int8": ort_int8,
    "OpenVINO float32": openvino_float32,
    "OpenVINO int8": openvino_int8,
    "int8-native": int8_native,
}
