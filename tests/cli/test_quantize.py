"""``lstmq quantize`` writes a file that other commands read as a checkpoint."""

import re

import pytest
from click.testing import CliRunner

from lstmq.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The path of the sample's model in int8."""
    path = tmp_path_factory.mktemp("quantized") / "m.int8.safetensors"
    result = run("quantize", "--scheme", "int8-native", "--out", path)
    assert result.exit_code == 0, result.output
    assert f"{path}: int8-native, 0.72 MB, read back; made from lstm.safetensors, 2750/96/96/2" in result.output
    return path


def test_evaluate_of_the_file_prints_the_loss_of_the_scheme(path):
    result = run("evaluate", "--checkpoint", path, "--tokens", 500)
    assert result.exit_code == 0, result.output
    assert "as stored: m.int8.safetensors, 2750/96/96/2, on 500 tokens of sample's test split" in result.output
    expected = run("evaluate", "--scheme", "int8-native", "--tokens", 500)
    assert re.findall(r"loss .*", result.output) == re.findall(r"loss .*", expected.output)


def test_generate_from_the_file_prints_the_text_of_the_scheme(path):
    options = ["--words", 20, "--seed", 1]
    result = run("generate", "--checkpoint", path, *options)
    assert result.output == run("generate", "--scheme", "int8-native", *options).output
    assert len(result.output.split()) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--checkpoint", "{}"], "expected a float32 checkpoint to compare with, found "),
        (["quantize", "--checkpoint", "{}", "--out", "x"], "nothing to quantize: NativeModel"),
        (["evaluate", "--scheme", "int8", "--checkpoint", "{}"], "nothing to quantize: NativeModel"),
        (["evaluate", "--corpus", "corpus", "--checkpoint", "{}"], "2,750 words"),
        (["quantize", "--out", "no/where"], "no such folder to write to"),
    ],
)
def test_wrong_input_prints_one_line_and_exits_with_2(path, arguments, message, tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "corpus" / f"{split}.txt").write_text("other words\n" * 20, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = run(*(argument.format(path) for argument in arguments))
    assert result.exit_code == 2
    assert result.stderr.startswith("lstmq: error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert [*tmp_path.iterdir()] == [tmp_path / "corpus"]
