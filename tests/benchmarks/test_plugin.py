"""Laws of the plugin: it costs a plain pytest nothing, and works in a project of the user that knows only the wheel."""

import re
import shutil
import sys

import pytest

from benchmarks.user_model import MODEL
from lstmq.gate import AGAINST_SLICES, LOOKS, Plan
from lstmq.workload import DEFAULT_TOKENS

FEW = ("--gate-looks=24", "--gate-blocks=24", "--gate-slices=2", "-p", "no:cacheprovider")
pytestmark = pytest.mark.slow


def test_plain_pytest_imports_nothing_more_than_the_options(run_python, tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\ndef test_modules():\n"
        "    assert not {'torch', 'numpy', 'msgspec', 'rich'} & sys.modules.keys()\n"
        "    mine = {name for name in sys.modules if name.startswith('lstmq')}\n"
        "    assert mine == {'lstmq', 'lstmq.pytest_plugin', 'lstmq.gating', 'lstmq.gating.options'}\n"
    )
    result = run_python("-m", "pytest", "-q")
    assert result.returncode == 0, result
    assert "1 passed" in result.stdout


def test_help_names_the_defaults(run_python):
    text = " ".join(run_python("-m", "pytest", "--help").stdout.split())
    looks = ",".join(map(str, LOOKS))
    for words in (
        f"at most {DEFAULT_TOKENS:,}",
        f"measures on what is undecided [{looks}]",
        f"number of blocks that each process reads [{Plan.blocks}]",
        f"number of slices in a block [{Plan.slices}; with --gate-against {AGAINST_SLICES}]",
        f"a scheme may be [{Plan.tolerance:.0%}]",
    ):
        assert words in text


def test_init_writes_a_gate_that_passes_beside_other_plugins_and_settings(run_python, own_model, tmp_path):
    """The limits say which model they are for, so no option names it. The model is a small one, which is quick."""
    own_model.write_text(MODEL.replace("256", "128").replace("500", "200"))
    limits, tests = own_model.with_name("limits.toml"), own_model.with_name("test_gate.py")
    made = run_python("-m", "lstmq", "init", "gate/mine.py:workload")
    assert made.returncode == 0, made
    for words in (
        "int8: ",
        "Fails below ",
        "will not notice if a speedup falls by less than a third",
        "wrote gate/limits",
    ):
        assert words in made.stdout
    assert len(tests.read_text().splitlines()) <= 10

    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers --import-mode=importlib\n")
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    storage = f"--benchmark-storage=file://{tmp_path / 'saved'}"
    saved = run_python("-m", "pytest", *FEW, storage, "--benchmark-autosave", "-k", "float32 or int8 or other")
    assert saved.returncode == 0, saved
    assert "the gate, with the limits of gate/limits.toml" in saved.stdout
    from_inside = (storage, "--benchmark-compare", "--gate-baseline=require", "--gate-scheme=int8")
    compared = run_python("-m", "pytest", *FEW, *from_inside, folder=own_model.parent)
    assert re.search(r"(PASS|INCONCLUSIVE) +baseline +int8 +kept speedup", compared.stdout), compared  # few blocks
    without = run_python("-m", "pytest", "-p", "no:lstmq", "-q", "test_other.py")
    assert without.returncode == 0, without

    text = limits.read_text().partition("\n[int8-embedding]")[0]  # only int8, which is quicker
    limits.write_text(text)
    updated = run_python("-m", "lstmq", "init", "--update", "gate/limits.toml", "--yes")
    assert updated.returncode == 0, updated
    assert re.search(r"int8 +speedup +at least \d", updated.stdout)
    assert limits.read_text() != text
    assert limits.read_text().splitlines()[:6] == text.splitlines()[:6]


def test_init_overwrites_nothing_and_asks_before_it_updates(lstmq, own_model):
    limits = own_model.with_name("limits.toml")
    limits.touch()
    again = lstmq("init", f"{own_model}:workload")
    assert again.exit_code == 2
    assert f"limits.toml is there already: `lstmq init --update {limits}` measures again" in again.errors
    asked = lstmq("init", "--update", limits)
    assert asked.exit_code == 2
    assert "cannot ask here: use --yes" in asked.errors
    assert not limits.read_text()
    assert not own_model.with_name("test_gate.py").exists()


LIMITS = 'workload = "mine.py:workload"\n[int8]\nsize_ratio = { at_least = 1.5 }\n'
TESTS = "def test_scheme(gate_judge, gate_scheme):\n    gate_judge(gate_scheme)\n"


@pytest.fixture
def gated(own_model):
    """``gate/`` with limits and a test for the model."""
    own_model.with_name("limits.toml").write_text(LIMITS)
    own_model.with_name("test_gate.py").write_text(TESTS)
    return own_model.parent


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda gate: (gate / "limits.toml").unlink(), (), "the gate needs limits: --gate-limits FILE, or "),
        (lambda gate: (gate / "mine.py").unlink(), (), "no such file: "),
        (lambda gate: (gate / "mine.py").write_text("import nowhere"), (), "No module named 'nowhere'"),
        (lambda gate: (gate / "mine.py").write_text("def workload(): return 3"), (), "expected a Workload"),
        (lambda gate: (gate / "limits.toml").write_text(LIMITS + "speed = 3"), (), "expected at_least or at_most"),
        (lambda gate: shutil.copytree(gate, gate.parent / "second"), (), "expected the tests of one gate, found some"),
        (lambda gate: None, ("--gate-against=.",), "--gate-against: expected a Python at .venv/bin/python, found none"),
        (lambda gate: None, ("--gate-against-workload=a.py:f",), "--gate-against-workload needs --gate-against"),
        (lambda gate: None, ("--gate-retries=-1",), "--gate-retries must be at least 0, found -1"),
    ],
)
def test_bad_input_is_a_usage_error_of_one_line(run_pytest, gated, change, options, message):
    change(gated)
    run_pytest(".", *FEW, *options).check_usage_error(message)


def test_workload_may_print_and_change_the_folder(run_pytest, gated):
    noisy = "import os\nprint('x' * 100_000)\nos.chdir('/')\n"
    (gated / "mine.py").write_text(noisy + MODEL)
    result = run_pytest("gate", *FEW)
    assert result.exit_code == 0, result


SLOWER = MODEL.replace("import torch\n", "import time\nimport torch\n", 1).replace(
    """        output, hidden = self.rnn(input, hidden)
        return self.out(output), hidden
""",
    """        start = time.process_time()
        output, hidden = self.rnn(input, hidden)
        output, end = self.out(output), time.process_time()
        while time.process_time() < end + 0.2 * (end - start):
            pass
        return output, hidden
""",
)


@pytest.mark.parametrize(("model", "exit_code"), [(MODEL, 0), (SLOWER, 1)], ids=["unchanged", "slower"])
def test_model_that_got_20_percent_slower_in_this_checkout_fails_against_the_other(
    run_python, wheel_folder, gated, tmp_path, model, exit_code
):
    other = tmp_path / "other"
    shutil.copytree(gated, other / "gate")
    python = other / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={wheel_folder} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (gated / "mine.py").write_text(model)
    assert (model != MODEL) == exit_code
    # A small model is noisy.
    options = ("--gate-tolerance=7%", "--gate-blocks=12", "--gate-slices=8", "--gate-retries=2")
    result = run_python("-m", "pytest", "gate", "--gate-against", other, *options)
    assert result.returncode == exit_code, result
    assert re.search(rf"{'FAIL' if exit_code else 'PASS'} +against +int8 +slower", result.stdout)


def test_other_side_must_read_the_same_stream(run_pytest, gated, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(MODEL.replace("torch.zeros", "torch.ones"))
    against = ("--gate-against", sys.executable, f"--gate-against-workload={other}:workload")
    result = run_pytest("gate", *FEW, *against)
    assert result.exit_code == 12, result
    assert "expected the same inputs and targets on both" in result.output
