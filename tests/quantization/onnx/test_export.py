"""Laws of ONNX files.

1. What is written is read.
2. A file that is damaged, or contains anything but a language model of this package, is refused in one line.
"""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmq import batchify, evaluate, quantize
from lstmq.quantization.onnx.export import Measurement, Metadata, OnnxFile, read_onnx, write_onnx
from strategies import random_ids

onnx = pytest.importorskip("onnx", reason="needs the extra onnxruntime")
pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
MEASURED = {"loss": 3.25, "float32": 3.2, "kl": 0.001, "tokens": 60, "origin": "a corpus of größte words"}


@pytest.fixture
def written(model, dictionary):
    """The content to write."""
    metadata = Metadata(
        scheme="ort-int8",
        config=model.config,
        vocabulary=dictionary.idx2word,
        measured=Measurement(**MEASURED),
        lstmq="0.2.0",
        torch="2.13.0",
    )
    return OnnxFile(model=quantize(model, "ort-int8"), metadata=metadata)


@pytest.fixture
def path(written, tmp_path):
    """The path of a written file."""
    write_onnx(tmp_path / "model.onnx", written)
    return tmp_path / "model.onnx"


def test_read_onnx_returns_what_write_onnx_wrote(written, path):
    file = read_onnx(path)
    assert file.metadata == written.metadata
    assert file.dictionary.idx2word == written.metadata.vocabulary
    source = batchify(random_ids(30, 60, 0), 1)
    assert evaluate(file.model, source, 25) == evaluate(written.model, source, 25)


def test_file_is_a_valid_onnx_model_with_json_in_its_metadata(path):
    onnx.checker.check_model(onnx.load(path))
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert metadata.keys() == {"scheme", "config", "vocabulary", "measured", "lstmq", "torch"}
    assert metadata["vocabulary"][:2] == ["<unk>", "<eos>"]
    assert metadata["measured"] == MEASURED


def test_a_model_that_was_read_keeps_no_state_between_texts(path):
    model = read_onnx(path).model
    source = batchify(random_ids(30, 60, 0), 1)
    assert evaluate(model, source, 25) == evaluate(model, source, 25)
    assert torch.equal(model.init_hidden(3)[0], torch.zeros(2, 3, 8))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_onnx_of_a_damaged_file_fails_in_one_line_or_loads(path, data):
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    is_cut = data.draw(st.booleans())
    damaged = content[:place] + (b"" if is_cut else data.draw(st.binary(max_size=9)) + content[place + 9 :])
    damaged_path = path.with_name("damaged.onnx")
    damaged_path.write_bytes(damaged)
    try:
        model = read_onnx(damaged_path).model
    except ValueError as error:
        assert "\n" not in str(error)
        assert str(damaged_path) in str(error)
    else:
        assert model.config.ntoken == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an ONNX file, found an empty one"),
        (b"\x80\x02}q\x00.", "expected an ONNX file, found another kind, or a damaged or cut one"),
        ("größer".encode("latin-1"), "expected an ONNX file"),
    ],
)
def test_read_onnx_refuses_another_kind_of_file(content, message, tmp_path):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_onnx(tmp_path / "x.onnx")


def add_node(operator, inputs, outputs, **attributes):
    return lambda proto: proto.graph.node.append(onnx.helper.make_node(operator, inputs, outputs, **attributes))


def set_metadata(key, value):
    def change(proto):
        (entry,) = (entry for entry in proto.metadata_props if entry.key == key)
        entry.value = value

    return change


def store_a_weight_in_another_file(proto):
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def claim_that_a_weight_is_in_another_file(proto):
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def define_an_operator_in_another_domain(proto):
    (neg,) = (node for node in proto.graph.node if node.op_type == "Neg")
    neg.domain = "evil"
    proto.opset_import.append(onnx.helper.make_opsetid("evil", 1))
    body = [onnx.helper.make_node("Exp", ["x"], ["y"])]
    versions = [onnx.helper.make_opsetid("", 17)]
    proto.functions.append(onnx.helper.make_function("evil", "Neg", ["x"], ["y"], body, versions))


def redefine_a_known_operator(proto):
    define_an_operator_in_another_domain(proto)
    proto.functions[0].domain = ""
    (neg,) = (node for node in proto.graph.node if node.op_type == "Neg")
    neg.domain = ""


def add_a_sparse_weight(proto):
    proto.graph.sparse_initializer.add()


def add_a_graph_to_a_node(proto):
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("body", proto.graph))


def change_the_dtype_of_an_input(proto):
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_node("Loop", ["", ""], ["x"]), "expected the operators of a language model, found Loop"),
        (add_node("Exec", ["input"], ["x"], domain="somebody"), "ONNX and ONNX Runtime, found others: Exec"),
        (define_an_operator_in_another_domain, "ONNX and ONNX Runtime, found others: Neg"),
        (redefine_a_known_operator, "expected a graph of operators and weights, found functions or graphs inside it"),
        (add_a_sparse_weight, "found functions or graphs inside it"),
        (add_a_graph_to_a_node, "found functions or graphs inside it"),
        (claim_that_a_weight_is_in_another_file, "expected all weights in the file, found some in another file"),
        (store_a_weight_in_another_file, "expected all weights in the file, found some in another file"),
        (change_the_dtype_of_an_input, "expected the shapes of ModelConfig"),
        (lambda proto: proto.metadata_props.pop(0), "expected a file that `lstmq export` wrote, found no scheme in it"),
        (set_metadata("config", '{"ntoken": 31}'), "expected 31 different words, found 30"),
        (set_metadata("config", '{"ntoken": -1}'), "ntoken must be at least 1"),
        (set_metadata("config", '{"ntoken": 30, "nhid": "8"}'), "Expected `int`, got `str` - at `\\$.config.nhid`"),
        (set_metadata("config", '{"ntoken": 30, "nhid": 9}'), "expected the shapes of ModelConfig"),
        (set_metadata("config", "[]"), "Expected `object`, got `array` - at `\\$.config`"),
        (set_metadata("measured", '{"loss": 1.5}'), "missing required field"),
        (set_metadata("vocabulary", "{"), "Input data was truncated"),
        (set_metadata("vocabulary", '"a"'), "Expected `array`, got `str` - at `\\$.vocabulary`"),
        (set_metadata("vocabulary", json.dumps([*range(30)])), "Expected `str`, got `int`"),
        (set_metadata("vocabulary", json.dumps(["same"] * 30)), "expected 30 different words, found 1"),
        (lambda proto: proto.graph.node.pop(), "loss"),
        (lambda proto: proto.graph.initializer.pop(), "InvalidGraph|Fail|INVALID"),
    ],
)
def test_read_onnx_refuses_a_hostile_or_broken_file_in_one_line(path, change, message):
    proto = onnx.load(path)
    change(proto)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=message) as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_read_onnx_without_onnx_runtime_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"model\.onnx needs ONNX Runtime: pip install 'lstmq\[onnxruntime\]'"):
        read_onnx(path)


def test_read_onnx_raises_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_onnx(tmp_path / "nowhere.onnx")
