"""The three trained models of the docs with several engines: :func:`describe_model`."""

import runpy
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
import torch
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from timing import measure
from torch import Tensor, nn

from lstmq import evaluate, model_size, quantize

FILE = Path(__file__).parents[2] / "docs" / "int8" / "models.py"
MODELS = {"GRU": "gru", "BiLSTM tagger": "tagger", "decoder of cells": "decoder"}  # and the functions that make them
ENGINES = ("float32", "torch.ao int8", "ORT int8", "int8-native")  # the columns of the table
WINDOW, WINDOWS = 25, 10


class OrtModel(nn.Module):
    """A model in ONNX Runtime, in int8 as far as it can: it has no GRU in int8.

    Args:
        model: float32.
        arguments: ids of a window, and zeros for a state if the model has one. All windows have these shapes.
    """

    def __init__(self, model: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.zeros = arguments[-1]
        self.graph = quantize_graph(model, arguments)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])

    def run(self, *arguments: Tensor) -> list[Tensor]:
        """Return all outputs."""
        names = [value.name for value in self._session.get_inputs()]
        inputs = {name: argument.numpy() for name, argument in zip(names, arguments, strict=True)}
        return [torch.from_numpy(output) for output in self._session.run(None, inputs)]

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits."""
        return self.run(ids)[0]


class OrtModelWithState(OrtModel):
    """The same for a model that reads a state, and returns the next one. It starts with zeros."""

    def forward(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits and state."""
        logits, after = self.run(ids, self.zeros if state is None else state)
        return logits, after


def quantize_graph(model: nn.Module, arguments: tuple[Tensor, ...]) -> bytes:
    """Export a model to ONNX, and quantize it with ONNX Runtime."""
    with TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):  # about the exporter that is used
        before, after = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        torch.onnx.export(model, arguments, before, opset_version=17, dynamo=False)
        graph = onnx.load(before)
        helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})  # else it warns
        onnx.save(graph, before)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8)
        return after.read_bytes()


def describe_model(function: str, rounds: int) -> Sequence[str]:
    """Return size, loss and speed of a model with each engine."""
    subject = runpy.run_path(str(FILE))[function]().speed
    model, stream = subject.model, subject.stream
    ids = stream.slice(0, WINDOW).inputs
    if function == "gru":
        in_ort = OrtModelWithState(model, (ids, model(ids)[1].detach() * 0))
    else:
        in_ort = OrtModel(model, (ids,))
    made = {
        "float32": model,
        "torch.ao int8": quantize(model, "int8"),
        "ORT int8": in_ort,
        "int8-native": quantize(model, "int8-native"),
    }
    part = stream.slice(0, WINDOW * WINDOWS)
    found = measure({name: partial(evaluate, one, part, WINDOW) for name, one in made.items()}, rounds)
    cells = []
    for name, one in made.items():
        size = len(one.graph) / 1e6 if isinstance(one, OrtModel) else model_size(one).megabytes
        loss, speed = evaluate(one, stream, WINDOW), found["float32"].over(found[name])
        cells.append(f"{size:.2f} MB, {loss:.4f}, {speed:.2f}x")
    return cells
