"""ONNX files for deployment. A file contains a graph, its dictionary, and what was measured before it was written.

A file may come from anybody. :func:`read_onnx` runs only graphs that consist of this package's operators.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import torch

from lstmq.errors import prefix_errors
from lstmq.file_kinds import START, describe_binary, describe_text
from lstmq.files import read_input
from lstmq.model import ModelConfig
from lstmq.quantization.onnx.graph import OPERATORS, graph_signature
from lstmq.quantization.onnx.session import OnnxModel, missing_packages
from lstmq.text import Dictionary

DOMAINS = ("", "ai.onnx", "com.microsoft")  # of ONNX's and of ONNX Runtime's operators


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured before a file was written.

    Attributes:
        loss: of the model in the file, in nats per token.
        float32: the loss of the float32 model, in nats per token.
        kl: mean Kullback-Leibler divergence from the float32 model's predictions, in nats per token.
        tokens: number of tokens that the models predicted.
        origin: the float32 model and the text.
    """

    loss: float
    float32: float
    kl: float | None
    tokens: int
    origin: str


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says about its model. Each attribute is an entry of the ONNX metadata, as JSON.

    Attributes:
        scheme: the key of :data:`lstmq.SCHEMES` that made the model.
        config: the shape of the model.
        vocabulary: the words of the dictionary, by id.
        measured: the loss of the model, and its distance from float32.
        lstmq: the version of this package that wrote the file.
        torch: the version of torch that the model was compared with.
    """

    scheme: str
    config: ModelConfig
    vocabulary: list[str]
    measured: Measurement
    lstmq: str
    torch: str


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """The content of an ONNX file.

    Attributes:
        model: runs in ONNX Runtime.
        metadata: what the file says about the model.
    """

    model: OnnxModel
    metadata: Metadata

    @property
    def dictionary(self) -> Dictionary:
        """The words of the model's ids."""
        return Dictionary(self.metadata.vocabulary)


def write_onnx(path: Path, file: OnnxFile) -> None:
    """Write an ONNX file.

    Raises:
        OSError: if the file cannot be written.
    """
    import onnx

    proto = onnx.load_from_string(file.model.graph.numpy().tobytes())
    entries = msgspec.to_builtins(file.metadata)
    onnx.helper.set_model_props(proto, {key: msgspec.json.encode(value).decode() for key, value in entries.items()})
    path.write_bytes(proto.SerializeToString())


def read_onnx(path: Path) -> OnnxFile:
    """Read a file that :func:`write_onnx` wrote.

    Raises:
        ValueError: if the file is of another kind, damaged or incomplete, or contains anything but a language model of
            this package; if ONNX Runtime is not installed.
        OSError: if the file cannot be read.
    """
    if needs := missing_packages():
        raise ValueError(f"{path} needs {needs}")
    import onnx

    content = read_input(path)
    found = describe_text(content[:START]) or describe_binary(content[:START])
    if not content or (found and "ONNX" not in found):
        raise ValueError(f"{path}: expected an ONNX file, found {found or 'an empty one'}")
    try:
        proto = onnx.load_from_string(content)
    except Exception:  # protobuf has errors of its own
        raise ValueError(f"{path}: expected an ONNX file, found another kind, or a damaged or cut one") from None
    with prefix_errors(path, Exception):  # ONNX Runtime, too, has errors of its own
        metadata = _read_metadata(proto)
        _check_graph(proto, metadata.config)
        model = OnnxModel(content, metadata.config)
        word = torch.zeros(1, 1, dtype=torch.int64)
        model.window_loss(word, word, model.init_hidden(1))
        return OnnxFile(model=model, metadata=metadata)


def _read_metadata(proto: Any) -> Metadata:
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    keys = [field.name for field in fields(Metadata)]
    if missing := [key for key in keys if key not in entries]:
        raise ValueError(f"expected a file that `lstmq export` wrote, found no {', '.join(missing)} in it")
    metadata = msgspec.convert({key: msgspec.json.decode(entries[key]) for key in keys}, Metadata)
    expected, found = metadata.config.ntoken, len(set(metadata.vocabulary))
    if found != expected or found != len(metadata.vocabulary):
        raise ValueError(f"expected {expected:,} different words, found {found:,}")
    return metadata


def _check_graph(proto: Any, config: ModelConfig) -> None:
    """Check that a graph has the inputs, the outputs and the operators of a language model, and nothing else."""
    inputs, outputs = graph_signature(config)
    for expected, found in ((inputs, proto.graph.input), (outputs, proto.graph.output)):
        if [*found] != expected:
            names = ", ".join(value.name for value in found)
            raise ValueError(f"expected the shapes of {config}, found others in {names or 'nothing'}")
    if other := {node.op_type for node in proto.graph.node if node.domain not in DOMAINS}:
        raise ValueError(f"expected operators of ONNX and ONNX Runtime, found others: {', '.join(sorted(other))}")
    if other := {node.op_type for node in proto.graph.node} - OPERATORS:
        raise ValueError(f"expected the operators of a language model, found {', '.join(sorted(other))}")
    attributes = [attribute for node in proto.graph.node for attribute in node.attribute]
    extras = (proto.functions, proto.training_info, proto.graph.sparse_initializer)
    if any(extras) or any(map(_has_tensor_or_graph, attributes)):
        raise ValueError("expected a graph of operators and weights, found functions or graphs inside it")
    if any(array.external_data or array.data_location for array in proto.graph.initializer):
        raise ValueError("expected all weights in the file, found some in another file")


def _has_tensor_or_graph(attribute: Any) -> bool:
    """Return whether the attribute of an operator is more than a number, a text or a list of them."""
    singles = any(attribute.HasField(field) for field in ("t", "g", "sparse_tensor"))
    return singles or bool(attribute.tensors or attribute.graphs or attribute.sparse_tensors)
