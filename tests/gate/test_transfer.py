"""Laws of the transfer of models to workers: what is loaded equals what was dumped, and no file is left behind."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lstmq import Stream, evaluate
from lstmq.gate import transfer
from lstmq.gate.protocol import SubjectFile
from lstmq.gate.transfer import dump_subjects, load_subject
from lstmq.workload.custom import load_user_workload
from lstmq.workload.subject import Subject, Workload
from runs import make_subject
from strategies import random_ids


def assert_equal(loaded, dumped):
    assert torch.equal(loaded.stream.inputs, dumped.stream.inputs)
    assert torch.equal(loaded.stream.targets, dumped.stream.targets)
    weights = dumped.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.model.state_dict().items())
    assert evaluate(loaded.model, loaded.stream, 7) == evaluate(dumped.model, dumped.stream, 7)
    assert not loaded.model.training


def test_loaded_subjects_equal_the_dumped_ones():
    workload = Workload(speed=make_subject(bsz=2), loss=make_subject(12, 50, 1))
    with dump_subjects(workload) as files:
        assert (files.speed.which, files.loss.which) == ("speed", "loss")
        assert_equal(load_subject(files.speed), workload.speed)
        assert_equal(load_subject(files.loss), workload.loss)


def test_subject_for_both_speed_and_loss_is_dumped_once():
    subject = make_subject(bsz=2)
    with dump_subjects(Workload(speed=subject, loss=subject)) as files:
        assert files.speed.folder == files.loss.folder
        assert_equal(load_subject(files.loss), subject)


def test_tensors_that_share_memory_or_have_gaps_are_dumped_each_on_its_own():
    """safetensors refuses to write such tensors as they are."""
    ids = random_ids(30, 60, 0).view(20, 3)
    model = make_subject(bsz=2).model
    subject = Subject(model=model, stream=Stream(inputs=ids[:, ::2], targets=ids[:, ::2]), origin="a test")
    model.rnn.bias_hh_l0 = model.rnn.bias_ih_l0
    with dump_subjects(Workload(speed=subject, loss=subject)) as files:
        assert_equal(load_subject(files.speed), subject)


def test_files_are_deleted_after_the_block_even_if_it_fails():
    with (
        pytest.raises(KeyboardInterrupt),
        dump_subjects(Workload(speed=make_subject(bsz=2), loss=make_subject(12, 50, 1))) as files,
    ):
        folder = Path(files.speed.folder).parent
        assert folder.is_dir()
        raise KeyboardInterrupt
    assert not folder.exists()


def test_missing_files_are_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        load_subject(SubjectFile(which="speed", made_by="", folder=str(tmp_path / "nowhere")))


def test_workers_load_several_inputs_and_targets_into_their_own_stream(tmp_path):
    """The function that calls the model, and what is in tuples and dictionaries, comes from the file."""
    file = tmp_path / "mine.py"
    body = """
import torch
from torch import nn
from lstmq import Stream, Subject, Workload
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 3)
    def init_hidden(self):
        return None
    def forward(self, x, more):
        return self.rnn(x)[0] + more, more

def make():
    torch.seed()
    inputs = {"more": torch.randn(2, 8, 3), "x": torch.randn(2, 8, 3)}
    targets = (torch.randn(2, 8, 3), torch.randn(2, 8, 3))
    def loss(output, targets):
        return sum(((a - b) ** 2).sum() for a, b in zip(output, targets)), 96
    stream = Stream(inputs=inputs, targets=targets, loss=loss, batch_first=True)
    model = Model()
    model.rnn.batch_first = True
    call = lambda model, inputs: model(**inputs)
    subject = Subject(model=model, stream=stream, origin="a", call=call)
    return Workload(speed=subject, loss=subject)
"""
    file.write_text(body, encoding="utf-8")
    workload = load_user_workload(f"{file}:make")
    stream = workload.speed.stream
    with dump_subjects(workload) as files:
        loaded = load_subject(files.speed)
    assert loaded.stream.inputs.keys() == {"more", "x"}
    assert all(torch.equal(loaded.stream.inputs[name], x) for name, x in stream.inputs.items())
    assert all(map(torch.equal, loaded.stream.targets, stream.targets))
    assert evaluate(loaded.model, loaded.stream, 8) == evaluate(workload.speed.model, stream, 8)


def test_modules_that_an_option_keeps_reach_workers_that_run_the_users_file(tmp_path):
    """The file itself keeps none."""
    file = tmp_path / "mine.py"
    file.write_text(
        """
import torch
from lstmq import Stream, Subject, Workload
def make():
    stream = Stream(inputs=torch.rand(30, 1, 4), targets=torch.zeros(30, 1, dtype=torch.int64))
    subject = Subject(model=torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)), stream=stream, origin="")
    return Workload(speed=subject, loss=subject)
""",
        encoding="utf-8",
    )
    with dump_subjects(load_user_workload(f"{file}:make", keep=("1",))) as files:
        assert load_subject(files.speed).keep == load_subject(files.loss).keep == ("1",)


OWN = """
import torch
from lstmq import Stream, Subject, Workload
def make():
    torch.manual_seed({seed})
    model = torch.nn.Sequential(torch.nn.Linear(4, {width}), torch.nn.Linear({width}, 2))
    torch.manual_seed(0)
    inputs = torch.rand({shape}, 4)
    stream = Stream(inputs=inputs, targets=(inputs.sum(-1) > {threshold}).long(), batch_first={batch_first})
    subject = Subject(model=model, stream=stream, origin="")
    return Workload(speed=subject, loss=subject)
"""


def load_there(tmp_path, here, there, tokens=None):
    """Return a subject as ``here`` makes it, and as another environment loads it with its own code."""
    common = {"seed": 0, "width": 3, "threshold": 2, "shape": "30, 1", "batch_first": False}
    for name, values in (("here", here), ("there", there)):
        (tmp_path / f"{name}.py").write_text(OWN.format(**common | values), encoding="utf-8")
    workload = load_user_workload(f"{tmp_path / 'here.py'}:make", tokens)
    with dump_subjects(workload) as files:
        other = replace(files.speed, made_by=f"{tmp_path / 'there.py'}:make", own_code=True)
        return workload.speed, load_subject(other)


@pytest.mark.parametrize("batch_first", [False, True])
def test_other_code_gets_the_weights_if_they_fit(tmp_path, batch_first):
    """This side reads only the start of the stream."""
    shape = {"shape": "2, 30" if batch_first else "30, 2", "batch_first": batch_first}
    here, there = load_there(tmp_path, shape, shape | {"seed": 1}, tokens=20)
    assert len(there.stream) == 20
    assert_equal(there, here)


def test_other_code_reads_the_stream_of_the_file(tmp_path, monkeypatch):
    """As this side does, because the memory that a stream lies in changes the speed of a small model."""
    read = []
    monkeypatch.setattr(transfer, "load_file", lambda path: read.append(load_file(path)) or read[-1])
    _, there = load_there(tmp_path, {}, {"seed": 1})
    assert there.stream.inputs.data_ptr() == read[0]["inputs.0"].data_ptr()
    assert there.stream.targets.data_ptr() == read[0]["targets.0"].data_ptr()


def test_other_code_keeps_its_weights_if_those_of_this_side_do_not_fit(tmp_path):
    _, there = load_there(tmp_path, {}, {"width": 5})
    assert there.model[0].weight.shape == (5, 4)


@pytest.mark.parametrize("change", [{"threshold": 1}, {"shape": "20, 1"}, {"shape": "30, 2"}])
def test_other_code_with_another_stream_is_refused(tmp_path, change):
    with pytest.raises(ValueError, match="makes another stream than the other side: expected the same inputs"):
        load_there(tmp_path, {}, change)
