"""Laws of a workload from a file of the user.

1. The function of the file returns the workload, with models in evaluation mode.
2. The file can import its neighbours, and changes neither installed modules nor the number of threads.
3. Anything else is an error of one line that names the file and the function.
"""

import copy
import sys
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lstmq.cli import main
from lstmq.gate.runs import describe_workload
from lstmq.workload.custom import load_user_workload, user_errors
from lstmq.workload.loading import load_workload

TAGGER = Path(__file__).parents[2] / "docs" / "tagger"
SPEC = f"{TAGGER / 'tagger.py'}:workload"
SOURCE = (TAGGER / "tagger.py").read_text(encoding="utf-8")
IMPORTS = """
import torch
from torch import nn
from lstmq import Stream, Subject, Workload
"""


def test_load_returns_the_workload_of_the_function_in_evaluation_mode():
    workload = load_workload(spec=SPEC)
    assert workload.loss is workload.speed
    assert len(workload.speed.stream) == 3_000
    assert not workload.speed.model.training
    assert workload.made_by == SPEC


def test_tokens_shorten_the_stream_to_time_and_change_the_fingerprint():
    whole, part = load_workload(spec=SPEC), load_workload(spec=SPEC, tokens=50)
    assert (len(part.speed.stream), len(part.loss.stream)) == (50, 3_000)
    assert len(load_workload(spec=SPEC, at_most=70).speed.stream) == 70
    fingerprints = [describe_workload(workload).fingerprint for workload in (whole, part, copy.deepcopy(whole))]
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]


def test_file_does_not_change_the_number_of_threads(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(SOURCE.replace("torch.manual_seed(0)", "torch.set_num_threads(2)"), encoding="utf-8")
    load_user_workload(f"{file}:workload")
    assert torch.get_num_threads() == 1


def test_file_can_import_neighbours_which_do_not_hide_installed_modules(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    (tmp_path / "beside_it.py").write_text("VALUE = 7\n", encoding="utf-8")
    (tmp_path / "wave.py").write_text("VALUE = 8\n", encoding="utf-8")  # the name of a module of Python
    file = tmp_path / "torch.py"  # the name of a module that the file imports
    body = "import wave\nfrom beside_it import VALUE\ndef make():\n    raise KeyError(VALUE, hasattr(wave, 'VALUE'))\n"
    file.write_text(IMPORTS + body, encoding="utf-8")
    with pytest.raises(ValueError, match=r"torch.py:make: KeyError: \(7, False\)"):
        load_user_workload(f"{file}:make")


def test_file_runs_under_pythons_default_warning_filters(tmp_path):
    """Warnings are errors in these tests, as they may be in those of a user who calls the gate."""
    file = tmp_path / "mine.py"
    body = """
import warnings
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 3, dropout=0.5)
    def forward(self, x):
        warnings.warn("deprecated", DeprecationWarning)
        return self.rnn(x)[0]
def make():
    stream = Stream(inputs=torch.zeros(30, 1, 3), targets=torch.zeros(30, 1).long())
    subject = Subject(model=Model(), stream=stream, origin="mine")
    return Workload(speed=subject, loss=subject)
"""
    file.write_text(IMPORTS + body, encoding="utf-8")
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        result = CliRunner().invoke(main, ["compare", "--workload", f"{file}:make", "--scheme", "bf16"])
    assert result.exit_code == 0, result.output
    with pytest.raises(DeprecationWarning):
        warnings.warn("filters are as before", DeprecationWarning, stacklevel=1)


def test_keep_option_adds_to_what_the_subject_keeps(tmp_path):
    file = tmp_path / "mine.py"
    source = (
        SOURCE.replace("nn.LSTM(", "nn.RNN(").replace('weights")', 'weights", keep=("tags",))').replace("3_000", "30")
    )
    file.write_text(source, encoding="utf-8")
    command = ["compare", "--workload", f"{file}:workload", "--scheme", "int8-embedding"]
    result = CliRunner().invoke(main, command)
    assert "lstm, a RNN, would stay float32. If it may, pass keep=('lstm',) or --keep lstm" in result.output
    result = CliRunner().invoke(main, [*command, "--keep", "lstm"])
    assert result.exit_code == 0, result.output
    assert "quantized: Embedding words; float32: RNN lstm, Linear tags" in result.output
    for wrong in (["--keep", "rnn"], []):
        file.write_text(source.replace('"tags"', '"tag"' if not wrong else '"tags"'), encoding="utf-8")
        result = CliRunner().invoke(main, [*command, *wrong])
        assert result.exit_code == 2
        assert "no module of Tagger matches" in result.output
        assert len(result.stderr.splitlines()) == 1


def test_user_errors_without_a_spec_leave_errors_as_they_are():
    with pytest.raises(KeyError), user_errors(None):
        raise KeyError("key")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "the file has no function make"),
        ("make = 3", "the file has no function make"),
        ("def make(", "SyntaxError"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def make():\n    raise KeyError('a\\nb')", "KeyError"),
        ("def make():\n    raise SystemExit", "SystemExit"),
        ("def make(model):\n    return model", "TypeError"),
        ("def make():\n    return 3", "expected a Workload from the function, found int"),
        (IMPORTS + "def make():\n    return Workload(speed=3, loss=3)", "expected a Subject, found int"),
        (
            IMPORTS
            + "def make():\n    s = Subject(model=3, stream=3, origin='')\n    return Workload(speed=s, loss=s)",
            "expected a Module, found int",
        ),
        (
            IMPORTS
            + "def make():\n"
            + "    s = Subject(model=nn.LSTM(3, 3), stream=torch.zeros(3, 1), origin='')\n"
            + "    return Workload(speed=s, loss=s)",
            "expected a Stream, found Tensor",
        ),
        (
            IMPORTS
            + "class Model(nn.Linear):\n"
            + "    def get_extra_state(self):\n        return 3\n"
            + "def make():\n"
            + "    stream = Stream(inputs=torch.zeros(3, 1), targets=torch.zeros(3, 1))\n"
            + "    s = Subject(model=Model(3, 3), stream=stream, origin='')\n"
            + "    return Workload(speed=s, loss=s)",
            "expected only dense tensors in the model's state dict, found _extra_state",
        ),
        (SOURCE.replace("words % TAGS", "words").replace("workload()", "make()"), "make: IndexError: Target"),
        (
            IMPORTS + "def make():\n    return Stream(inputs=torch.zeros(3, 1), targets=torch.zeros(2, 1))",
            "expected inputs and targets of shape",
        ),
    ],
)
def test_file_that_makes_no_workload_is_refused_in_one_line(tmp_path, source, reason):
    file = tmp_path / "mine.py"
    file.write_text(source, encoding="utf-8")
    result = CliRunner().invoke(main, ["compare", "--workload", f"{file}:make"])
    assert result.exit_code == 2
    assert f"{file}:make: " in result.stderr
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["nowhere.py:make"], "no such file: nowhere.py"),
        (["tagger.py"], "expected a workload as FILE.py:FUNCTION, found 'tagger.py'"),
        ([f"{TAGGER / 'limits.toml'}:make"], "expected a workload as FILE.py:FUNCTION"),
        ([SPEC, "--tokens", "3001"], "the stream has 3,000 steps: expected 1 to that many, found 3,001"),
        ([SPEC, "--tokens", "0"], "expected 1 to that many, found 0"),
        ([SPEC, "--corpus", "data/sample"], "omit corpus, checkpoint and vocabulary"),
    ],
)
def test_wrong_option_is_refused_in_one_line(options, reason):
    result = CliRunner().invoke(main, ["compare", "--workload", *options])
    assert result.exit_code == 2
    assert reason in result.output
    assert len(result.output.splitlines()) == 1
