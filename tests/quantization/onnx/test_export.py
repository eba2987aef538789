"""Laws of deployed files: what is written is read; what anybody else wrote is refused in one line, and never run."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmq import batchify, evaluate, quantize
from lstmq.quantization.onnx import export
from lstmq.quantization.onnx.export import OnnxFile
from strategies import stream

onnx = pytest.importorskip("onnx", reason="of the extra onnxruntime")
pytest.importorskip("onnxruntime", reason="of the extra onnxruntime")
MEASURED = {"loss": 3.25, "float32": 3.2, "kl": 0.001, "tokens": 60, "of": "a corpus of größte words"}


@pytest.fixture
def deployed(model, dictionary):
    facts = {"scheme": "ort-int8", "measured": MEASURED, "lstmq": "0.1.0", "torch": "2.13.0"}
    return OnnxFile(model=quantize(model, "ort-int8"), dictionary=dictionary, **facts)


@pytest.fixture
def file(deployed, tmp_path):
    export.write_onnx(tmp_path / "model.onnx", deployed)
    return tmp_path / "model.onnx"


def changed(file, change):
    """Let ``change`` have the ONNX model in the file."""
    model = onnx.load(file)
    change(model)
    file.write_bytes(model.SerializeToString())


def test_what_is_written_is_read(deployed, file):
    again = export.read_onnx(file)
    assert again.dictionary.idx2word == deployed.dictionary.idx2word
    assert again.model.config == deployed.model.config
    assert replace(again, model=deployed.model, dictionary=deployed.dictionary) == deployed
    source = batchify(stream(30, 60, 0), 1)
    assert evaluate(again.model, source, 25) == evaluate(deployed.model, source, 25)


def test_a_file_is_a_graph_like_any_other_to_onnx(file):
    """The words and the figures are in its metadata, as JSON."""
    onnx.checker.check_model(onnx.load(file))
    found = {entry.key: json.loads(entry.value) for entry in onnx.load(file).metadata_props}
    assert found.keys() == {*export.KEYS}
    assert found["vocabulary"][:2] == ["<unk>", "<eos>"]
    assert found["measured"] == MEASURED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_one_line_or_the_same_model(deployed, file, data):
    """Cut anywhere, or with bytes that are others."""
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:place] + (
        b"" if data.draw(st.booleans()) else data.draw(st.binary(max_size=9)) + whole[place + 9 :]
    )
    path = file.with_name("damaged.onnx")
    path.write_bytes(damaged)
    try:
        model = export.read_onnx(path).model
    except ValueError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
    else:
        assert model.config.ntoken == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found no scheme, config, vocabulary, measured, lstmq, torch in it"),
        (b"\x80\x02}q\x00.", "expected an ONNX file, found another kind, or a damaged or cut one"),
        ("größer".encode("latin-1"), "expected an ONNX file"),
    ],
)
def test_another_kind_of_file_is_refused(content, message, tmp_path):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        export.read_onnx(tmp_path / "x.onnx")


def test_an_onnx_file_of_anybody_elses_is_refused(file):
    changed(file, lambda model: model.metadata_props.pop(0))
    with pytest.raises(ValueError, match="expected a file that `lstmq export` wrote, found no scheme in it"):
        export.read_onnx(file)


def node(kind, inputs, outputs, **attributes):
    return lambda model: model.graph.node.append(onnx.helper.make_node(kind, inputs, outputs, **attributes))


def says(key, value):
    def change(model):
        (entry,) = [entry for entry in model.metadata_props if entry.key == key]
        entry.value = value

    return change


def elsewhere(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def functions(model):
    """Give an operator of ours a body of somebody else's."""
    (neg,) = [node for node in model.graph.node if node.op_type == "Neg"]
    neg.domain = "evil"
    model.opset_import.append(onnx.helper.make_opsetid("evil", 1))
    body = [onnx.helper.make_node("Exp", ["x"], ["y"])]
    versions = [onnx.helper.make_opsetid("", 17)]
    model.functions.append(onnx.helper.make_function("evil", "Neg", ["x"], ["y"], body, versions))


def functions_of_ours(model):
    functions(model)
    model.functions[0].domain = ""
    (neg,) = [node for node in model.graph.node if node.op_type == "Neg"]
    neg.domain = ""


def elsewhere_by_kind_alone(model):
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def sparse(model):
    model.graph.sparse_initializer.add()


def with_a_graph(model):
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", model.graph))


def another_type(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (node("Loop", ["", ""], ["x"]), "expected a language model's operators, found Loop"),
        (node("Exec", ["input"], ["x"], domain="somebody"), "found another's Exec"),
        (functions, "expected ONNX's operators and ONNX Runtime's, found another's Neg"),
        (functions_of_ours, "expected a graph of operators and weights, found functions or graphs inside it"),
        (sparse, "found functions or graphs inside it"),
        (with_a_graph, "found functions or graphs inside it"),
        (elsewhere_by_kind_alone, "expected weights in the file, found some that are elsewhere"),
        (elsewhere, "expected weights in the file, found some that are elsewhere"),
        (another_type, "expected the shapes of ModelConfig"),
        (says("config", '{"ntoken": 31}'), "expected 31 different words, found 30"),
        (says("config", '{"ntoken": -1}'), "ntoken must be at least 1"),
        (says("config", '{"depth": 2}'), "depth"),
        (says("config", "[]"), "TypeError"),
        (says("vocabulary", "{"), "Expecting property name"),
        (says("vocabulary", '"a"'), "different words"),
        (says("vocabulary", json.dumps([*range(30)])), "expected words, found"),
        (says("vocabulary", json.dumps(["same"] * 30)), "expected 30 different words, found 1"),
        (lambda model: model.graph.node.pop(), "loss"),
        (lambda model: model.graph.initializer.pop(), "InvalidGraph|Fail|INVALID"),
    ],
)
def test_a_hostile_or_broken_file_is_one_line(file, change, message):
    changed(file, change)
    with pytest.raises(ValueError, match=message) as caught:
        export.read_onnx(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_without_onnx_runtime_a_file_says_what_to_install(file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"model\.onnx needs ONNX Runtime: pip install 'lstmq\[onnxruntime\]'"):
        export.read_onnx(file)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        export.read_onnx(tmp_path / "nowhere.onnx")


def test_the_model_is_read_on_as_many_threads_as_torch_has(file):
    """And its state is the caller's: nothing of one reading is left for the next."""
    model = export.read_onnx(file).model
    source = batchify(stream(30, 60, 0), 1)
    assert evaluate(model, source, 25) == evaluate(model, source, 25)
    assert torch.equal(model.init_hidden(3)[0], torch.zeros(2, 3, 8))
