"""Laws of what the command prints and writes.

1. ``-`` is standard output wherever a file is written, and then nothing else goes there.
2. What exists and is not a regular file is never replaced, and never read.
3. A terminal shows every word, whatever it can encode. No text of others forges lines, escape sequences or markup.
4. What was changed or looks wrong in an input is a line on standard error.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from lstmq.cli import main
from runs import MACHINE, WORKLOAD, make_environment, make_run, save_run

FORGED = "x<br>\n# head\r\x1b[31m[bold]**PASS**|$x$\u202e"
SHOWN = r"x<br>\n# head\r\x1b[31m[bold]**PASS**|$x$\u202e"
ESCAPED = r"x\<br\>\\n# head\\r\\x1b[31m[bold]\*\*PASS\*\*\|\$x\$\\u202e"


def run_bytes(*arguments):
    """Run the command, and return its standard output as bytes, and its standard error."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout_bytes, result.stderr


@pytest.fixture
def run_file(tmp_path):
    """A saved run whose text was chosen by an attacker."""
    environment = make_environment(machine=replace(MACHINE, cpu=FORGED, torch=FORGED), absent={"bf16": FORGED})
    run = make_run(environment, schemes=("int8", "bf16"), workload=replace(WORKLOAD, speed=FORGED, loss=FORGED))
    return save_run(tmp_path / "run.json", run)


# Law 1.


def test_json_on_standard_output_is_alone(model_files):
    out, errors = run_bytes("compare", *model_files, "--scheme", "int8", "--json", "-")
    assert json.loads(out)["rows"][1]["name"] == "int8"
    assert "measured on: model.safetensors" in errors


def test_quantized_model_on_standard_output_is_alone(model_files):
    out, errors = run_bytes("quantize", *model_files, "--out", "-")
    assert safetensors.torch.load(out)["encoder.weight"].dtype == torch.int8
    assert errors.startswith("-: int8-native, ")


def test_exported_model_on_standard_output_is_alone(model_files, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnxruntime")
    out, errors = run_bytes("export", *model_files, "--out", "-")
    assert onnx.load_from_string(out).graph.name == "lstm_language_model"
    assert "read back and evaluated on" in errors


def test_generated_text_on_standard_output_is_what_is_printed_without_a_file(model_files):
    command = ["generate", *model_files, "--words", 30, "--seed", 1]
    assert run_bytes(*command, "--out", "-") == run_bytes(*command)


@pytest.mark.parametrize("option", ["--markdown", "--html", "--plot"])
def test_report_on_standard_output_is_alone(tmp_path, option):
    out, errors = run_bytes("report", save_run(tmp_path / "run.json", make_run()), option, "-")
    assert out.startswith({"--markdown": b"**", "--html": b"<!doctype html>", "--plot": b"\x89PNG"}[option])
    assert "int8:" in errors.splitlines()


def test_verdicts_on_standard_output_are_alone(tmp_path):
    out, errors = run_bytes("gate", save_run(tmp_path / "run.json", make_run()), "--markdown", "-")
    assert out.startswith(b"### lstmq: PASS\n")
    assert "PASS: every figure is within its limit" in errors


def test_log_on_standard_output_is_alone(corpus_folder, tmp_path):
    shape = ("--ninp", 2, "--nhid", 2, "--nlayers", 1, "--batch-size", 2, "--epochs", 1)
    out, errors = run_bytes("train", "--corpus", corpus_folder, "--out", tmp_path / "m.pth", *shape, "--log", "-")
    assert [json.loads(line)["event"] for line in out.splitlines()][-1] == "epoch"
    assert "best validation loss" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "RUN", "--markdown", "-", "--html", "-"], "only one file can be -, which is standard output"),
        (["train", "--out", "-"], "expected a file to write to, because it is read again, found standard output: -"),
        (["train", "--out", os.devnull], "because it is read again, found a device: "),
        (["train", "--out", "m.pth", "--log", "-", "--plot", "x.png"], "--plot draws what --log writes to a file"),
    ],
)
def test_output_that_cannot_be_standard_output_is_refused(run, tmp_path, arguments, message):
    path = save_run(tmp_path / "run.json", make_run())
    result = run(*(path if argument == "RUN" else argument for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


# Law 2.


def test_pipe_as_input_is_refused_in_one_line(run, tmp_path, corpus_folder, model_files):
    os.mkfifo(pipe := tmp_path / "pipe")
    (corpus_folder / "valid.txt").unlink()
    (corpus_folder / "valid.txt").symlink_to(pipe)
    for arguments in (["evaluate", "--checkpoint", pipe], ["evaluate", *model_files], ["report", pipe]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "expected a file, found a pipe" in result.stderr
        assert result.stderr.count("\n") == 1


def test_pipe_as_output_without_a_reader_is_refused_in_one_line(run, tmp_path, model_files):
    os.mkfifo(pipe := tmp_path / "pipe")
    result = run("compare", *model_files, "--scheme", "int8", "--json", pipe)
    assert result.exit_code == 2
    assert result.stderr == f"lstmq: error: {pipe}: no process reads this pipe: start the reader first\n"
    assert pipe.is_fifo()


# Law 3.


@pytest.mark.slow
def test_generate_prints_words_that_the_terminal_cannot_encode_as_escapes(model_files, corpus_folder):
    for path in corpus_folder.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("word", "語"), encoding="utf-8")
    command = [sys.executable, "-m", "lstmq", "generate", *map(str, model_files), "--words", "50", "--seed", "1"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    process = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert len(process.stdout.split()) == 50
    assert rb"\u8a9e" in process.stdout


def test_generate_prints_no_control_characters_and_writes_words_to_a_file_as_they_are(run, model_files, corpus_folder):
    for path in corpus_folder.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("word", "\x1b[31m\x07"), encoding="utf-8")
    command = ["generate", *model_files, "--words", 50, "--seed", 1]
    printed = run(*command).stdout
    assert "\x1b" not in printed
    assert r"\x1b[31m\x07" in printed
    run(*command, "--out", corpus_folder / "text")
    assert "\x1b[31m\x07" in (corpus_folder / "text").read_text(encoding="utf-8")


def test_saved_run_forges_nothing_in_the_report(run_file, tmp_path):
    out, errors = run_bytes("report", run_file, "--markdown", tmp_path / "out.md", "--plot", tmp_path / "out.png")
    markdown = (tmp_path / "out.md").read_text(encoding="utf-8")
    for text in (out.decode(), errors, markdown):
        assert not set(text) & {"\x1b", "\r", "\u202e"}
        assert not [line for line in text.splitlines() if line.startswith(("# head", "- # head"))]
    assert SHOWN in out.decode()
    assert ESCAPED in markdown
    assert not {"<br>", "**PASS**|"} & {*markdown.split()}


def test_saved_run_forges_nothing_in_verdicts(run_file, tmp_path):
    result = CliRunner().invoke(main, ["gate", str(run_file), "--markdown", str(tmp_path / "out.md")])
    markdown = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert SHOWN in result.stdout
    assert ESCAPED in markdown
    for text in (result.output, markdown):
        assert not set(text) & {"\x1b", "\r", "\u202e"}
        assert not [line for line in text.splitlines() if line.startswith("# head")]


def test_error_about_a_checkpoint_forges_nothing(run, tmp_path):
    torch.save({FORGED: torch.ones(1)}, tmp_path / "m.pth")
    result = run("evaluate", "--checkpoint", tmp_path / "m.pth")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    assert r"\x1b[31m" in result.stderr


# Law 4.


def test_note_about_an_input_is_a_line_on_standard_error(run, model_files, corpus_folder):
    (corpus_folder / "test.txt").write_bytes(b"\xef\xbb\xbf" + (corpus_folder / "test.txt").read_bytes())
    result = run("evaluate", *model_files)
    assert result.exit_code == 0
    assert result.stderr == f"lstmq: note: {corpus_folder}/test.txt: removed the byte order mark at its start\n"
    assert "removed" not in result.stdout


def test_share_of_unknown_words_is_shown_and_is_a_warning_above_one_half(run, model_files, corpus_folder, tmp_path):
    assert ", 0.0% <unk>\n" in run("evaluate", *model_files).stdout
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text("nobody knows these words word3\n", encoding="utf-8")
    result = run("evaluate", "--corpus", other, *model_files[2:], "--vocabulary", corpus_folder)
    assert ", 60.0% <unk>\n" in result.stdout
    assert result.stderr == "lstmq: warning: 60.0% of other's test split is <unk>, so a loss says little about it\n"
