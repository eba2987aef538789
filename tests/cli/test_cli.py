"""Laws of the command: it runs on nothing but what is embedded; wrong input is one line and exit code 2."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner

from lstmq import Corpus, evaluate, generate, quantize
from lstmq.cli import main
from lstmq.model import checkpoint
from lstmq.workload.loading import load_text_subject, sample_folder


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def real(corpus_folder, tmp_path, model):
    """Options for a corpus and a checkpoint of its words."""
    checkpoint.save_checkpoint(model, tmp_path / "model.safetensors")
    return ["--corpus", corpus_folder, "--checkpoint", tmp_path / "model.safetensors"]


TABLE = re.compile(r" +MB |(float32|int8|bf16|ort)[-\w]* ")  # its lines


def test_compare_runs_on_the_embedded_default(tmp_path):
    result = run("compare", "--tokens", 200, "--json", tmp_path / "run.json")
    assert result.exit_code == 0, result.output
    assert "Embedding(33278, 512)" in result.output
    rows = {line.split()[0]: line.split()[1] for line in result.output.splitlines() if TABLE.match(line)}
    rows.pop("MB")
    assert rows == {
        "float32": "113.95",
        "int8": "79.74",
        "int8-embedding": "28.89",
        "int8-embedding4": "20.37",
        "bf16": "56.98",
        "ort-int8": "28.62",
        "int8-native": "28.91",
    }
    assert "seeded weights, on 200 tokens of the sample" in result.output
    assert re.search(r"loss: lstm.safetensors, [\d/]+, on [\d,]+ tokens of sample's test split", result.output)
    written = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in written["rows"]] == list(rows)
    speedups = [row["speedup"]["median"] for row in written["rows"][1:]]
    assert speedups == sorted(speedups)
    assert written["machine"].keys() == {"cpu", "isa", "torch", "engine", "native", "threads", "python", "system"}
    assert all(abs(row["loss_difference"]) < 0.01 for row in written["rows"])


def test_the_table_fits_80_columns(real):
    result = run("compare", *real)
    table = [line for line in result.output.splitlines() if TABLE.match(line)]
    assert len(table) == 8
    assert all(len(line) <= 80 for line in table)
    assert "…" not in result.output


def test_schemes_are_chosen_and_measured_once(real):
    result = run("compare", *real, "--scheme", "bf16", "--scheme", "bf16")
    assert result.exit_code == 0
    assert len([line for line in result.output.splitlines() if line.startswith("bf16")]) == 1
    assert "\nint8" not in result.output


def test_the_json_says_what_was_measured_on_what(real, tmp_path):
    """Threads and engine as asked for, and which model the speed and the loss are of."""
    before = torch.get_num_threads()
    try:
        path = tmp_path / "run.json"
        run("compare", *real, "--threads", 2, "--engine", "onednn", "--scheme", "int8", "--json", path)
        written = json.loads(path.read_text(encoding="utf-8"))
        assert (written["machine"]["threads"], written["machine"]["engine"]) == (2, "onednn")
        assert torch.get_num_threads() == 2
        run("compare", "--tokens", 50, "--scheme", "int8", "--json", path)
        written = json.loads(path.read_text(encoding="utf-8"))
        assert written["machine"]["threads"] == torch.get_num_threads() == 1
        assert "seeded weights" in written["workload"]["speed_and_size"]
        assert "lstm.safetensors" in written["workload"]["loss"]
    finally:
        torch.set_num_threads(before)


def test_a_narrow_terminal_gets_every_figure(real, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" not in run("compare", *real).output


def test_evaluate_prints_loss_and_perplexity(real):
    float32 = run("evaluate", *real)
    assert re.search(r"loss 3\.4\d+ nats per token, perplexity \d+\.\d\d\n", float32.output)
    assert run("evaluate").exit_code == 0


@pytest.mark.parametrize("scheme", ["float32", "int8", "bf16"])
def test_evaluate_is_of_the_scheme(scheme):
    subject = load_text_subject()
    model = subject.model if scheme == "float32" else quantize(subject.model, scheme)
    assert f"loss {evaluate(model, subject.stream, 25):.6f} nats" in run("evaluate", "--scheme", scheme).output


def test_generate_wraps_at_20_words_and_repeats_with_a_seed():
    one, same, other = (run("generate", "--words", 45, "--seed", seed) for seed in (1, 1, 2))
    assert one.output == same.output != other.output
    assert [len(line.split(" ")) for line in one.output.splitlines()] == [20, 20, 5]
    assert set(one.output.split()) <= Corpus(sample_folder()).dictionary.word2idx.keys()
    assert one.output.endswith("\n")


@pytest.mark.parametrize(("temperature", "scheme"), [(0.0, "float32"), (0.7, "int8"), (1.3, "bf16")])
def test_generate_is_of_the_scheme_at_the_temperature(temperature, scheme):
    subject = load_text_subject()
    model = subject.model if scheme == "float32" else quantize(subject.model, scheme)
    expected = generate(model, subject.dictionary, 30, temperature, torch.Generator().manual_seed(7))
    result = run("generate", "--words", 30, "--seed", 7, "--temperature", temperature, "--scheme", scheme)
    assert result.output.split() == list(expected)


def test_on_a_terminal_the_text_is_not_written_over(corpus_folder):
    """A bar would take the text's line back; there the text is its own progress."""
    terminal, ours = os.openpty()
    command = [sys.executable, "-m", "lstmq", "generate", "--words", "60", "--seed", "1"]
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdout=ours, stderr=ours, env=environment)
    os.close(ours)
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
        while chunk := os.read(terminal, 4096):
            seen += chunk
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    assert seen.decode().replace("\r\n", "\n") == run("generate", "--words", 60, "--seed", 1).output


def test_generate_writes_text_not_bytes(tmp_path, dictionary, corpus_folder, model):
    for file in corpus_folder.iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace("word", "wörd"), encoding="utf-8")
    checkpoint.save_checkpoint(model, tmp_path / "model.pth")
    out = tmp_path / "text.txt"
    where = ("--corpus", corpus_folder, "--checkpoint", tmp_path / "model.pth")
    assert run("generate", *where, "--words", 40, "--seed", 0, "--out", out).output == ""
    assert "wörd" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["int8", "int8-embedding", "bf16"])
def test_generate_takes_a_scheme(scheme):
    assert len(run("generate", "--scheme", scheme, "--words", 30).output.split()) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--corpus", "nowhere", "--checkpoint", "x"], "no such corpus folder: nowhere"),
        (["compare", "--checkpoint", "nowhere.pth"], "nowhere.pth"),
        (["compare", "--bptt", "0"], "0 is not in the range x>=1"),
        (["compare", "--threads", "0"], "0 is not in the range 1<=x<=1024"),
        (["compare", "--tokens", "999999"], "tokens: expected 2 to that many, found 999,999"),
        (["compare", "--tokens", "many"], "'many' is not a valid integer"),
        (["compare", "--scheme", "int3"], "'int3' is not one of"),
        (["compare", "--engine", "abacus", "--tokens", "50"], "no engine 'abacus'"),
        (["compare", "--json", "no/such/folder.json", "--tokens", "50"], "no such folder to write to: "),
        (["compare", "--nonsense"], "No such option"),
        (["evaluate", "--bptt", "-1"], "-1 is not in the range x>=1"),
        (["evaluate", "--tokens", "1"], "expected 2 to that many, found 1"),
        (["generate", "--temperature", "-0.5"], "temperature must be a number of at least 0, found -0.5"),
        (["evaluate", "--engine", "abacus"], "no engine 'abacus'"),
        (["compare", "--scheme", "bf16", "--engine", "abacus"], "no engine 'abacus'"),
        (["compare", "--json", "tests"], "'tests' is a directory"),
        (["generate", "--seed", "-1"], "-1 is not in the range"),
        (["generate", "--temperature", "nan"], "temperature must be"),
        (["generate", "--words", "-1"], "number of words must be at least 0, found -1"),
        (["translate"], "No such command 'translate'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("lstmq: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.txt", None, "no test split"),
        ("valid.txt", b"", "valid.txt is empty"),
        ("test.txt", b"caf\xe9 au lait\n", "test.txt is not UTF-8: invalid continuation byte at byte 3"),
        ("train.txt", b"a few new words\n", "model.safetensors is of another vocabulary: it knows 30 words"),
    ],
)
def test_a_wrong_corpus_is_one_line_and_exit_code_2(real, corpus_folder, name, content, message):
    (corpus_folder / name).unlink() if content is None else (corpus_folder / name).write_bytes(content)
    for command in ("compare", "evaluate", "generate"):
        result = run(command, *real)
        assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
        assert message in result.output


def start(*arguments):
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # what started this may not
    command = [sys.executable, "-W", "error", "-c", f"{hear}; from lstmq.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_interrupt_leaves_the_old_file_and_exits_130(tmp_path):
    out = tmp_path / "run.json"
    out.write_text("old")
    process = start("compare", "--json", out)
    while not list(tmp_path.glob(".run.json.*")):  # until it has begun
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "lstmq: interrupted"
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_reader_that_has_read_enough_is_no_error():
    process = start("generate", "--words", 20_000)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_version_and_help():
    assert re.fullmatch(r"lstmq \d+\.\d+\.\d+\n", run("--version").output)
    for command in main.commands:
        assert run(command, "--help").exit_code == 0
    assert run().exit_code == 2
