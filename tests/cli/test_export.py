"""``lstmq export`` writes a file that other commands read as a checkpoint, if its loss is that of torch."""

import json
import re

import pytest
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.quantization import schemes

onnx = pytest.importorskip("onnx", reason="needs the extra onnxruntime")
pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def loss_in(output):
    return float(re.search(r"loss ([\d.]+) nats", output)[1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with the sample's model in a file for each scheme."""
    folder = tmp_path_factory.mktemp("exported")
    options = {"ort-fp32": [], "ort-int8": ["--int8"], "ort-int8-linear-lstm": ["--scheme", "ort-int8-linear-lstm"]}
    for scheme, scheme_options in options.items():
        result = run("export", "--tokens", 500, "--out", folder / f"{scheme}.onnx", *scheme_options)
        assert result.exit_code == 0, result.output
        assert f"{scheme}, " in result.output
        assert "read back" in result.output
    return folder


@pytest.mark.parametrize(
    ("scheme", "tolerance"), [("ort-fp32", 1e-4), ("ort-int8", 0.01), ("ort-int8-linear-lstm", 0.01)]
)
def test_evaluate_of_the_file_does_not_need_torchs_quantization(exported, scheme, tolerance, monkeypatch):
    monkeypatch.delattr("torch.ao.quantization.quantize_dynamic")
    result = run("evaluate", "--checkpoint", exported / f"{scheme}.onnx", "--tokens", 500)
    assert result.exit_code == 0, result.output
    assert f"as stored: {scheme}.onnx, 2750/96/96/2, on 500 tokens of sample's test split" in result.output
    expected = loss_in(run("evaluate", "--tokens", 500).output)
    assert loss_in(result.output) == pytest.approx(expected, abs=tolerance)


def test_file_contains_what_was_measured(exported):
    proto = onnx.load(exported / "ort-int8.onnx")
    metadata = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    measured = metadata["measured"]
    result = run("evaluate", "--checkpoint", exported / "ort-int8.onnx", "--tokens", 500)
    assert measured["loss"] == pytest.approx(loss_in(result.output), abs=1e-6)
    assert measured["float32"] == pytest.approx(loss_in(run("evaluate", "--tokens", 500).output), abs=1e-6)
    assert 0 < measured["kl"] < 0.01
    assert (measured["tokens"], metadata["scheme"], metadata["config"]["nhid"]) == (499, "ort-int8", 96)
    assert len(metadata["vocabulary"]) == 2750


def test_generate_from_the_file_prints_the_text_of_the_scheme(exported):
    options = ["--words", 20, "--seed", 1]
    result = run("generate", "--checkpoint", exported / "ort-int8.onnx", *options)
    assert result.output == run("generate", "--scheme", "ort-int8", *options).output
    assert len(result.output.split()) == 20


def test_evaluate_reads_another_corpus_with_the_words_of_the_file(exported, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("the abracadabra the\n" * 20, encoding="utf-8")
    result = run("evaluate", "--corpus", tmp_path, "--checkpoint", exported / "ort-int8.onnx")
    assert result.exit_code == 0, result.output
    assert "on 80 tokens" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--checkpoint", "{}/ort-int8.onnx"], "expected a float32 checkpoint to compare with"),
        (["evaluate", "--scheme", "int8", "--checkpoint", "{}/ort-int8.onnx"], "nothing to quantize: OnnxModel"),
        (["evaluate", "--scheme", "ort-int8", "--checkpoint", "{}/ort-int8.onnx"], "ort-int8 needs an LSTMModel"),
        (["export", "--int8", "--scheme", "ort-fp32", "--out", "x.onnx"], "--int8 means --scheme ort-int8"),
        (["export", "--out", "{}/no/where.onnx"], "no such folder to write to"),
        (["export", "--checkpoint", "{}/ort-int8.onnx", "--out", "x.onnx"], "ort-fp32 needs an LSTMModel"),
    ],
)
def test_wrong_input_prints_one_line_and_exits_with_2(exported, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*(argument.format(exported) for argument in arguments))
    assert result.exit_code == 2
    assert result.stderr.startswith("lstmq: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not [*tmp_path.iterdir()]


def test_export_writes_no_file_if_its_loss_is_not_that_of_torch(tmp_path, monkeypatch):
    quantize = schemes.SCHEMES["ort-fp32"].quantize

    def quantize_other_weights(model):
        model.decoder.bias.data[7] += 0.1
        quantized = quantize(model)
        model.decoder.bias.data[7] -= 0.1
        return quantized

    wrong = schemes.Scheme(summary="wrong weights", quantize=quantize_other_weights)
    monkeypatch.setitem(schemes.SCHEMES, "ort-fp32", wrong)
    result = run("export", "--tokens", 200, "--out", tmp_path / "x.onnx")
    assert result.exit_code == 2
    assert re.search(r"not written: expected a loss within 0.0001 of torch's 1\.\d+, found 1\.\d+", result.stderr)
    assert not [*tmp_path.iterdir()]
