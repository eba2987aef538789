"""Laws of errors in the command.

1. Wrong input prints one line that says what was expected, and exits with 2.
2. An interrupt exits with 130 and leaves the old file.
3. A closed pipe is not an error message.
"""

import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from lstmq.cli import OneLineErrors


def assert_one_line_error(result, message):
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("lstmq: error: ")
    assert message in result.stderr
    assert result.output.count("\n") == 1


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
        (["compare", "--scheme", "bf16", "--engine", "abacus"], "no engine 'abacus'"),
        (["compare", "--json", "."], "'.' is a directory"),
        (["compare", "--nonsense"], "No such option"),
        (["evaluate", "--bptt", "-1"], "-1 is not in the range x>=1"),
        (["evaluate", "--tokens", "1"], "expected 2 to that many, found 1"),
        (["evaluate", "--engine", "abacus"], "no engine 'abacus'"),
        (["generate", "--seed", "-1"], "-1 is not in the range"),
        (["generate", "--temperature", "-0.5"], "temperature must be a number of at least 0, found -0.5"),
        (["generate", "--temperature", "nan"], "temperature must be"),
        (["generate", "--words", "-1"], "number of words must be at least 0, found -1"),
        (["translate"], "No such command 'translate'"),
    ],
)
def test_wrong_argument_prints_one_line_and_exits_with_2(run, arguments, message):
    assert_one_line_error(run(*arguments), message)


def test_missing_folder_of_the_json_file_prints_one_line_before_anything_is_compared(run, model_files):
    result = run("compare", *model_files, "--json", "no/such/folder.json")
    assert result.exit_code == 2
    assert "float32" not in result.output
    assert result.stderr.startswith("lstmq: error: no such folder to write to: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["compare", "evaluate", "generate"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.txt", None, "no test split"),
        ("valid.txt", b"", "valid.txt is empty"),
        ("test.txt", b"caf\xe9 au lait\n", "test.txt is not UTF-8: invalid continuation byte at byte 3"),
        ("train.txt", b"a few new words\n", "model.safetensors is of another vocabulary: it knows 30 words"),
    ],
)
def test_damaged_corpus_prints_one_line_and_exits_with_2(
    run, model_files, corpus_folder, command, name, content, message
):
    if content is None:
        (corpus_folder / name).unlink()
    else:
        (corpus_folder / name).write_bytes(content)
    assert_one_line_error(run(command, *model_files), message)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("expected 2,\n  found 1"), "expected 2, found 1"),
        (FileNotFoundError("no such folder"), "no such folder"),
        (RuntimeError("cannot allocate 8 GB\nframe 1\nframe 2"), "cannot allocate 8 GB"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_error_inside_a_command_prints_one_line_and_exits_with_2(error, line):
    @click.group(cls=OneLineErrors)
    def group():
        pass

    @group.command()
    def fail():
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stderr) == (2, f"lstmq: error: {line}\n")


def start(*arguments):
    """Start the command in a process that handles SIGINT, even if the process that runs the tests ignores it."""
    handle = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{handle}; from lstmq.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_interrupt_exits_with_130_and_leaves_the_old_file(tmp_path):
    out = tmp_path / "run.json"
    out.write_text("old")
    process = start("compare", "--json", out)
    while not list(tmp_path.glob(".run.json.*")):  # the temporary file appears when the command starts to measure
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "lstmq: interrupted"
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_closed_pipe_prints_no_error():
    process = start("generate", "--words", 20_000)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()
