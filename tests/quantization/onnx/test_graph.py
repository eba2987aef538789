"""Laws of ONNX graphs.

1. ONNX's own reference implementation, which computes in NumPy, agrees with the model.
2. A quantized graph contains the int8 version of each operator that was to be quantized, or is refused.
"""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from packaging.version import Version

from lstmq import QuantizationError
from lstmq.quantization.onnx import graph
from strategies import models, random_ids, seeds

onnx = pytest.importorskip("onnx", reason="needs the extra onnxruntime")
ALL_OPERATORS = tuple(graph.INT8_OPERATORS)


@pytest.mark.skipif(Version(onnx.__version__) < Version("1.23"), reason="older references return no cell state")
@settings(max_examples=15)
@given(model=models(max_ntoken=12, max_width=5), seed=seeds)
def test_graph_computes_the_loss_logits_and_state_of_the_model(model, seed):
    from onnx.reference import ReferenceEvaluator

    model.eval()
    ids, targets = (random_ids(model.config.ntoken, 8, seed + i).view(4, 2) for i in (0, 1))
    generator = torch.Generator().manual_seed(seed)
    hidden = tuple(torch.randn(model.config.nlayers, 2, model.config.nhid, generator=generator) for _ in "hc")
    with torch.no_grad():
        logits, state = model(ids, hidden)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    arrays = (tensor.numpy() for tensor in (ids, targets, *hidden))
    results = ReferenceEvaluator(graph.build_graph(model)).run(None, dict(zip(graph.INPUTS, arrays, strict=True)))
    for result, expected in zip(results, (loss, logits, *state), strict=True):
        np.testing.assert_allclose(result, expected.numpy(), rtol=1e-4, atol=1e-5)


@settings(max_examples=15)
@given(model=models(max_ntoken=12, max_width=5))
def test_graph_is_valid_and_readable_by_the_oldest_runtime(model):
    proto = graph.build_graph(model)
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.ir_version, proto.opset_import[0].version) == (graph.IR, graph.OPSET) == (8, 17)
    assert {node.op_type for node in proto.graph.node} <= graph.OPERATORS


@pytest.mark.parametrize("operators", [ALL_OPERATORS, ("LSTM", "MatMul"), ("MatMul",)])
def test_quantize_graph_replaces_the_operators_by_their_int8_versions(model, operators):
    pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
    quantized = graph.quantize_graph(graph.build_graph(model), operators)
    counts = Counter(node.op_type for node in quantized.graph.node)
    assert set(counts) <= graph.OPERATORS
    assert counts["MatMulInteger"] == 1
    assert (counts["DynamicQuantizeLSTM"], counts["LSTM"]) == ((2, 0) if "LSTM" in operators else (0, 2))
    dtypes = {
        tuple(array.dims): onnx.TensorProto.DataType.Name(array.data_type) for array in quantized.graph.initializer
    }
    assert dtypes[30, 16] == ("UINT8" if "Gather" in operators else "FLOAT")
    assert dtypes[8, 30] == "INT8"


@pytest.mark.parametrize("skipped", ALL_OPERATORS)
def test_quantize_graph_refuses_an_operator_that_stays_float32(model, skipped, monkeypatch):
    quantization = pytest.importorskip("onnxruntime.quantization", reason="needs the extra onnxruntime")
    quantize_dynamic = quantization.quantize_dynamic

    def skip_operator(before, after, op_types_to_quantize, **options):
        operators = [operator for operator in op_types_to_quantize if operator != skipped]
        return quantize_dynamic(before, after, op_types_to_quantize=operators, **options)

    monkeypatch.setattr(quantization, "quantize_dynamic", skip_operator)
    message = f"left {skipped} in float32, expected {graph.INT8_OPERATORS[skipped]}"
    with pytest.raises(QuantizationError, match=message):
        graph.quantize_graph(graph.build_graph(model), ALL_OPERATORS)


def test_quantize_graph_detects_one_float32_layer_among_int8_layers_and_a_lost_layer(model):
    """A quantizer might skip one of several layers, or replace a layer by something else."""
    pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
    float32 = graph.build_graph(model).graph
    quantized = graph.quantize_graph(graph.build_graph(model), ALL_OPERATORS).graph
    graph._check_quantized(quantized, ALL_OPERATORS)
    first_lstm, _ = (node for node in float32.node if node.op_type == "LSTM")
    skipped = type(quantized)()
    skipped.CopyFrom(quantized)
    skipped.node.append(first_lstm)
    skipped.initializer.extend(array for array in float32.initializer if array.name in first_lstm.input)
    lost = type(quantized)()
    lost.CopyFrom(quantized)
    del lost.node[:]
    lost.node.extend(node for node in quantized.node if node.op_type != "DynamicQuantizeLSTM")
    for wrong in (skipped, lost):
        with pytest.raises(QuantizationError, match="left LSTM in float32, expected DynamicQuantizeLSTM"):
            graph._check_quantized(wrong, ALL_OPERATORS)
