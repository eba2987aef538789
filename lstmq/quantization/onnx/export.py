"""ONNX files to deploy: a graph, and beside it in the file its words and what was measured of it.

What is read from such a file is taken for anybody's: only graphs made of this package's operators are run.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lstmq.errors import one_line
from lstmq.model import ModelConfig
from lstmq.quantization.onnx import session
from lstmq.quantization.onnx.graph import OPERATORS, graph_signature
from lstmq.quantization.onnx.session import OnnxModel
from lstmq.text import Dictionary

DOMAINS = ("", "ai.onnx", "com.microsoft")
KEYS = ("scheme", "config", "vocabulary", "measured", "lstmq", "torch")


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A model in an ONNX file.

    Attributes:
        model: run by ONNX Runtime.
        dictionary: the words of its ids.
        scheme: the key of :data:`lstmq.SCHEMES` that made it.
        measured: loss in nats per token, float32's loss, Kullback-Leibler divergence from float32 in nats; of how many
            tokens, of what.
        lstmq: the version that wrote it; ``torch``, the one that it was checked against.
    """

    model: OnnxModel
    dictionary: Dictionary
    scheme: str
    measured: dict[str, Any]
    lstmq: str
    torch: str


def write_onnx(path: Path, deployed: OnnxFile) -> None:
    """Write an ONNX file whose metadata are all that a :class:`Deployed` says of its model, as JSON.

    Raises:
        OSError: if the file cannot be written.
    """
    import onnx

    graph = onnx.load_from_string(deployed.model.graph.numpy().tobytes())
    config = asdict(deployed.model.config)
    facts: dict[str, Any] = {"config": config, "vocabulary": deployed.dictionary.idx2word}
    facts |= {key: getattr(deployed, key) for key in KEYS if key not in facts}
    onnx.helper.set_model_props(graph, {key: json.dumps(facts[key], ensure_ascii=False) for key in KEYS})
    path.write_bytes(graph.SerializeToString())


def read_onnx(path: Path) -> OnnxFile:
    """Read a file that :func:`write` wrote.

    Raises:
        ValueError: in one line, if it is another kind of file, cut, damaged, of another version, or holds any operator
            that is not this package's; or if ONNX Runtime is not installed.
        OSError: if it cannot be read.
    """
    if needs := session.missing_packages():
        raise ValueError(f"{path} needs {needs}")
    import onnx

    content = path.read_bytes()
    try:
        graph = onnx.load_from_string(content)
    except Exception:  # protobuf's own
        raise ValueError(f"{path}: expected an ONNX file, found another kind, or a damaged or cut one") from None
    found = {entry.key: entry.value for entry in graph.metadata_props}
    if absent := [key for key in KEYS if key not in found]:
        raise ValueError(f"{path}: expected a file that `lstmq export` wrote, found no {', '.join(absent)} in it")
    try:
        facts = {key: json.loads(found[key]) for key in KEYS}
        config, words = ModelConfig(**facts["config"]), Dictionary(facts["vocabulary"])
        if not all(isinstance(word, str) for word in words.idx2word):
            raise ValueError("expected words, found something else among them")
        if len(words) != config.ntoken:
            raise ValueError(f"expected {config.ntoken:,} different words, found {len(words):,}")
        _check(graph, config)
        model = OnnxModel(content, config)
        word = torch.zeros(1, 1, dtype=torch.int64)
        model.window_loss(word, word, model.init_hidden(1))
    except Exception as error:  # of a damaged graph, ONNX Runtime raises kinds of its own
        raise ValueError(f"{path}: {one_line(error)}") from None
    told = {key: facts[key] for key in ("scheme", "measured", "lstmq", "torch")}
    return OnnxFile(model=model, dictionary=words, **told)


def _check(model: Any, config: ModelConfig) -> None:
    """See that a graph takes and gives what :func:`lstmq.graph.build`'s does, and is made of nothing else."""
    expected_inputs, expected_outputs = graph_signature(config)
    for expected, given in ((expected_inputs, model.graph.input), (expected_outputs, model.graph.output)):
        if [*given] != expected:
            names = ", ".join(each.name for each in given)
            raise ValueError(f"expected the shapes of {config}, found others in {names or 'nothing'}")
    if other := {node.op_type for node in model.graph.node if node.domain not in DOMAINS}:
        raise ValueError(f"expected ONNX's operators and ONNX Runtime's, found another's {', '.join(sorted(other))}")
    if other := {node.op_type for node in model.graph.node} - OPERATORS:
        raise ValueError(f"expected a language model's operators, found {', '.join(sorted(other))}")
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if model.functions or model.training_info or model.graph.sparse_initializer or any(map(_is_more, attributes)):
        raise ValueError("expected a graph of operators and weights, found functions or graphs inside it")
    if any(each.external_data or each.data_location for each in model.graph.initializer):
        raise ValueError("expected weights in the file, found some that are elsewhere")


def _is_more(attribute: Any) -> bool:
    """Return whether an operator's attribute is more than numbers or a name."""
    return any(attribute.HasField(field) for field in ("t", "g", "sparse_tensor")) or bool(
        attribute.tensors or attribute.graphs or attribute.sparse_tensors
    )
