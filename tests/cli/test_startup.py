"""Laws of a quick start: help, ``--version``, shell completion and ``import lstmq`` do not import torch."""

import os
import re
import subprocess
import sys

import pytest

from lstmq.cli import main

SLOW_PACKAGES = ("torch", "rich", "matplotlib", "onnxruntime")


def run_python(code, *arguments, **environment):
    """Run code in a fresh process. Return what it prints, and the slow packages that it imported."""
    report = f"print(*sys.modules.keys() & {{*{SLOW_PACKAGES}}}, file=sys.stderr)"
    command = [sys.executable, "-c", f"import atexit, sys; atexit.register(lambda: {report}); {code}", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr.split()


def run_command(*arguments, **environment):
    return run_python("from lstmq.cli import main; main(prog_name='lstmq')", *arguments, **environment)


def complete(line):
    """Complete the last word of a command line as bash does. Return the completions, and the imported packages."""
    place = len(line.split(" ")) - 1
    shown, imported = run_command(_LSTMQ_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(place))
    return [row.partition(",")[2] for row in shown.splitlines()], imported


def test_version_has_three_numbers(run):
    assert re.fullmatch(r"lstmq \d+\.\d+\.\d+\n", run("--version").output)


@pytest.mark.parametrize("command", main.commands)
def test_every_command_has_help(run, command):
    result = run(command, "-h")
    assert result.exit_code == 0
    assert result.output == run(command, "--help").output
    assert result.output.startswith(f"Usage: main {command} ")


def test_command_without_arguments_shows_the_help_and_exits_with_2(run):
    result = run()
    assert result.exit_code == 2
    assert all(command in result.stderr for command in main.commands)


@pytest.mark.slow
def test_import_of_lstmq_does_not_import_torch():
    assert run_python("import lstmq") == ("", [])


@pytest.mark.slow
def test_import_of_a_slow_package_is_detected():
    """Otherwise the other tests here would pass whatever is imported."""
    assert run_python("import rich") == ("", ["rich"])


@pytest.mark.slow
@pytest.mark.parametrize(("option", "start"), [("--help", "Usage: lstmq"), ("--version", "lstmq 0.")])
def test_help_and_version_do_not_import_torch(option, start):
    shown, imported = run_command(option)
    assert shown.startswith(start)
    assert imported == []


@pytest.mark.slow
@pytest.mark.parametrize("command", main.commands)
def test_help_of_a_command_does_not_import_torch(command):
    shown, imported = run_command(command, "--help")
    assert shown.startswith(f"Usage: lstmq {command} ")
    assert imported == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("lstmq comp", ["compare"]),
        ("lstmq compare --sch", ["--scheme"]),
        ("lstmq compare --scheme bf", ["bf16", "bf16-compile"]),
        ("lstmq compare --engine x86 --threads 2 --sch", ["--scheme"]),
        ("lstmq train --threads 2 --opt", ["--optimizer"]),
    ],
)
def test_shell_completion_does_not_import_torch(line, completions):
    assert complete(line) == (completions, [])
