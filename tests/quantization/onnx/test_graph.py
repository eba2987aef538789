"""Laws of the ONNX graph, held against ONNX's own reference implementation, which computes in NumPy."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from packaging.version import Version

from lstmq import QuantizationError
from lstmq.quantization.onnx import graph
from strategies import models, seeds, stream

onnx = pytest.importorskip("onnx", reason="of the extra onnxruntime")


@pytest.mark.skipif(Version(onnx.__version__) < Version("1.23"), reason="ONNX's own LSTM gave no cell state before")
@settings(max_examples=20)
@given(model=models(max_ntoken=12, max_width=5), seed=seeds)
def test_the_graph_says_what_the_model_says(model, seed):
    """The loss, the logits, and the state, from any state."""
    from onnx.reference import ReferenceEvaluator

    model.eval()
    ids, targets = (stream(model.config.ntoken, 8, seed + i).view(4, 2) for i in (0, 1))
    generator = torch.Generator().manual_seed(seed)
    hidden = tuple(torch.randn(model.config.nlayers, 2, model.config.nhid, generator=generator) for _ in "hc")
    with torch.no_grad():
        logits, state = model(ids, hidden)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    feeds = dict(zip(graph.INPUTS, (each.numpy() for each in (ids, targets, *hidden)), strict=True))
    told = ReferenceEvaluator(graph.build_graph(model)).run(None, feeds)
    for found, expected in zip(told, (loss, logits, *state), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@given(model=models(max_ntoken=12, max_width=5))
def test_the_graph_is_valid_and_readable_by_the_oldest_runtime(model):
    built = graph.build_graph(model)
    onnx.checker.check_model(built, full_check=True)
    assert (built.ir_version, built.opset_import[0].version) == (graph.IR, graph.OPSET) == (8, 17)
    assert {node.op_type for node in built.graph.node} <= graph.OPERATORS


@pytest.mark.parametrize("kinds", [("LSTM", "MatMul", "Gather"), ("LSTM", "MatMul"), ("MatMul",)])
def test_what_is_to_be_int8_is(model, kinds):
    pytest.importorskip("onnxruntime", reason="of the extra onnxruntime")
    quantized = graph.quantize_graph(graph.build_graph(model), kinds)
    operators = Counter(node.op_type for node in quantized.graph.node)
    assert set(operators) <= graph.OPERATORS
    assert operators["MatMulInteger"] == 1
    assert (operators["DynamicQuantizeLSTM"], operators["LSTM"]) == ((2, 0) if "LSTM" in kinds else (0, 2))
    types = {tuple(each.dims): onnx.TensorProto.DataType.Name(each.data_type) for each in quantized.graph.initializer}
    assert types[30, 16] == ("UINT8" if "Gather" in kinds else "FLOAT")
    assert types[8, 30] == "INT8"


@pytest.mark.parametrize("left", ["LSTM", "MatMul", "Gather"])
def test_an_operator_that_stays_float_is_refused(model, left, monkeypatch):
    quantization = pytest.importorskip("onnxruntime.quantization", reason="of the extra onnxruntime")
    real = quantization.quantize_dynamic

    def without(before, after, op_types_to_quantize, **options):
        return real(before, after, op_types_to_quantize=[k for k in op_types_to_quantize if k != left], **options)

    monkeypatch.setattr(quantization, "quantize_dynamic", without)
    with pytest.raises(QuantizationError, match=f"left {left} in float32, expected {graph.INT8[left]}"):
        graph.quantize_graph(graph.build_graph(model), ("LSTM", "MatMul", "Gather"))


def test_one_operator_of_several_that_stays_float_is_seen_and_one_that_is_gone(model):
    """As a quantizer might leave them that passes over a layer, or makes something else of it."""
    floats, whole = graph.build_graph(model).graph, ("LSTM", "MatMul", "Gather")
    pytest.importorskip("onnxruntime", reason="of the extra onnxruntime")
    quantized = graph.quantize_graph(graph.build_graph(model), whole).graph
    graph._check(quantized, whole)
    (first, _) = [node for node in floats.node if node.op_type == "LSTM"]
    left = type(quantized)()
    left.CopyFrom(quantized)
    left.node.append(first)
    left.initializer.extend(each for each in floats.initializer if each.name in first.input)
    gone = type(quantized)()
    gone.CopyFrom(quantized)
    del gone.node[:]
    gone.node.extend(node for node in quantized.node if node.op_type != "DynamicQuantizeLSTM")
    for wrong in (left, gone):
        with pytest.raises(QuantizationError, match="left LSTM in float32, expected DynamicQuantizeLSTM"):
            graph._check(wrong, whole)
