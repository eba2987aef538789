"""Laws of measuring any module, not only a language model.

1. A module with a state carries it from window to window; one without reads every window alone.
2. Quantized copies are near float32. A stream with its own loss has no perplexity and no divergence.
3. Worker processes read the same weights and streams, and use the code of the file.
"""

from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from rich.console import Console
from torch import nn

from lstmq import LSTMModel, ModelConfig, Stream, Subject, Workload, evaluate, next_words, quantize
from lstmq.cli import main
from lstmq.comparison.fidelity import compare_predictions
from lstmq.comparison.paired import compare
from lstmq.gate.processes import Environment
from lstmq.gate.recording import Plan
from lstmq.gate.session import measure
from lstmq.gate.transfer import dump_subjects, load_subject
from lstmq.report.tables import comparison_table
from lstmq.workload.custom import load_user_workload
from lstmq.workload.loading import load_workload

TAGGER = Path(__file__).parents[2] / "docs" / "tagger" / "tagger.py"
IMPORTS = """
import torch
from torch import nn
from lstmq import Stream, Subject, Workload
"""


@pytest.fixture
def short_tagger(tmp_path):
    """The example of the docs with a shorter stream, as ``FILE.py:FUNCTION``."""
    source = TAGGER.read_text(encoding="utf-8")
    assert "(3_000, 1)" in source
    (tmp_path / "tagger.py").write_text(source.replace("(3_000, 1)", "(300, 1)"), encoding="utf-8")
    return f"{tmp_path / 'tagger.py'}:workload"


class Stateful(nn.Module):
    """Carries a state that begins as None. Reads and returns real numbers."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, input, hidden):
        output, hidden = self.rnn(input, hidden)
        return self.out(output), hidden


class Stateless(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.rnn, self.out = nn.Embedding(9, 4), nn.LSTM(4, 5), nn.Linear(5, 9)
        self.out.bias = nn.Parameter(torch.arange(9.0))

    def forward(self, input):
        return self.out(self.rnn(self.words(input))[0])


def squared_error(output, targets):
    return ((output - targets) ** 2).sum()


def stateful_subject(own_loss=True):
    torch.manual_seed(0)
    targets = torch.randn(60, 2, 2) if own_loss else torch.randint(2, (60, 2))
    stream = Stream(inputs=torch.randn(60, 2, 3), targets=targets, loss=squared_error if own_loss else None)
    return Subject(model=Stateful().eval(), stream=stream, origin="real numbers")


def stateless_subject():
    words = torch.randint(9, (61, 1), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    return Subject(model=Stateless().eval(), stream=next_words(words), origin="words")


# Law 1.


@torch.no_grad()
@pytest.mark.parametrize("own_loss", [True, False])
def test_state_that_begins_as_none_is_carried_between_windows(own_loss):
    subject = stateful_subject(own_loss)
    output, _ = subject.model(subject.stream.inputs, None)
    mean = subject.stream.summed_loss(output).item() / subject.stream.tokens
    for bptt in (1, 7, 60, 99):
        assert evaluate(subject.model, subject.stream, bptt) == pytest.approx(mean, rel=1e-5)


@torch.no_grad()
def test_module_without_a_state_reads_each_window_alone():
    subject = stateless_subject()
    windows = subject.stream.windows(12)
    losses = [F.cross_entropy(subject.model(window.inputs)[:, 0], window.targets[:, 0]).item() for window in windows]
    assert evaluate(subject.model, subject.stream, 12) == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert evaluate(subject.model, subject.stream, 60) != pytest.approx(sum(losses) / 5, rel=1e-5)


class AnyForward(nn.Module):
    """A module with a given forward, which appends its second argument to ``seen``."""

    def __init__(self, forward, init_hidden=None):
        super().__init__()
        self.layer, self.seen = nn.Linear(1, 1), []
        self.forward = forward.__get__(self)
        if init_hidden:
            self.init_hidden = init_hidden


FORWARDS = [
    (lambda self, x: (self.seen.append("alone"), x)[1], "alone"),
    (lambda self, x, lengths=None: (self.seen.append(lengths), x)[1], None),
    (lambda self, x, *, mask=3: (self.seen.append(mask), x)[1], 3),
    (lambda self, x, **others: (self.seen.append(len(others)), x)[1], 0),
    (lambda self, x, anything: (self.seen.append(anything), (x, "next"))[1], "next"),
    (lambda self, x, hidden=None: (self.seen.append(hidden), (x, "next"))[1], "next"),
    (lambda self, x, hx=None, mask=None: (self.seen.append(hx), (x, "next"))[1], "next"),
]


@pytest.mark.parametrize(("forward", "seen"), FORWARDS)
def test_signature_of_forward_decides_whether_the_module_has_a_state(forward, seen):
    model = AnyForward(forward)
    evaluate(model, Stream(inputs=torch.zeros(2, 1, 1), targets=torch.zeros(2, 1, 1), loss=squared_error), 1)
    assert model.seen == [None if seen == "next" else seen, seen]


def test_state_begins_as_init_hidden_returns_it_and_is_cast_like_the_model():
    def forward(self, input, state):
        self.seen.append(state)
        return input, state

    model = AnyForward(forward, lambda bsz: (torch.zeros(bsz), (torch.zeros(bsz, dtype=torch.int64), None)))
    stream = Stream(inputs=torch.zeros(1, 3, 1), targets=torch.zeros(1, 3, 1), loss=squared_error)
    for dtype in (torch.float32, torch.bfloat16):
        evaluate(model.to(dtype), stream, 1)
        first, (second, third) = model.seen[-1]
        assert (first.dtype, second.dtype, third) == (dtype, torch.int64, None)
        assert first.shape == (3,)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            lambda self, x: (x, None),
            r"expected a tensor of logits from AnyForward, found tuple of 2: pass Subject\(\.\.\., call=function\)",
        ),
        (lambda self, x, hidden: x.tolist(), r"expected \(output, hidden\) from AnyForward, found list"),
        (lambda self, x, hidden: (x, hidden, 3), r"expected \(output, hidden\) from AnyForward, found tuple"),
    ],
)
def test_forward_that_returns_something_else_is_refused(forward, message):
    with pytest.raises(ValueError, match=message):
        evaluate(AnyForward(forward), Stream(inputs=torch.zeros(2, 1, 1), targets=torch.zeros(2, 1, 1)), 1)


# Law 2.


@pytest.mark.parametrize("scheme", ["int8", "bf16"])
@pytest.mark.parametrize("make_subject", [stateful_subject, stateless_subject])
def test_schemes_are_near_float32_but_not_equal(make_subject, scheme):
    subject = make_subject()
    other = quantize(subject.model, scheme)
    loss = evaluate(subject.model, subject.stream, 12)
    assert evaluate(other, subject.stream, 12) == pytest.approx(loss, rel=0.05)
    assert evaluate(other, subject.stream, 12) != loss


@pytest.mark.parametrize(
    "make_subject", [stateful_subject, partial(stateful_subject, own_loss=False), stateless_subject]
)
def test_stream_with_its_own_loss_has_no_divergence(make_subject):
    subject = make_subject()
    models = {"float32": subject.model, "int8": quantize(subject.model)}
    fidelity = compare_predictions(subject.model, models, subject.stream, 12)
    own_loss = subject.stream.loss is not None
    for name, model in models.items():
        assert fidelity[name].loss == pytest.approx(evaluate(model, subject.stream, 12), rel=1e-6)
        assert (fidelity[name].kl is None) is (fidelity[name].agreement is None) is own_loss
    assert own_loss or (fidelity["float32"].kl == 0 and fidelity["int8"].kl > 0)


@pytest.mark.parametrize(("own_loss", "cells"), [(True, 8), (False, 9)])
def test_stream_with_its_own_loss_has_no_perplexity(own_loss, cells):
    subject = stateful_subject(own_loss)
    rows = compare(Workload(speed=subject, loss=subject), ["int8"], 12)
    assert all((row.perplexity is None) is own_loss for row in rows)
    Console(file=(table := StringIO()), width=100).print(comparison_table(rows))
    assert [len(line.split()) for line in table.getvalue().splitlines()[1:]] == [cells] * 2


def test_agreement_is_a_share_of_all_targets_of_a_step():
    class FourTargets(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 12)

        def forward(self, input):
            return self.layer(input).unflatten(-1, (4, 3))  # four targets of three classes

    model = FourTargets()
    stream = Stream(inputs=torch.randn(9, 2, 3), targets=torch.randint(3, (9, 2, 4)))
    fidelity = compare_predictions(model, {"itself": model}, stream, 5)["itself"]
    assert (fidelity.kl, fidelity.agreement) == (0, 1)
    assert fidelity.loss == pytest.approx(evaluate(model, stream, 5), rel=1e-6)


def test_compare_command_measures_the_example_of_the_docs(short_tagger):
    result = CliRunner().invoke(main, ["compare", "--workload", short_tagger, "--tokens", "50", "--scheme", "int8"])
    assert result.exit_code == 0, result.output
    assert "size and speed: a tagger with seeded weights, 50 steps of it" in result.output
    assert "loss: a tagger with seeded weights\n" in result.output
    assert "(tags): Linear" in result.output


# Law 3.


@pytest.mark.parametrize("tied", [False, True])
def test_workers_load_the_weights_and_the_stream_and_run_the_code_of_the_file(tmp_path, tied):
    """The file draws other weights each time it runs."""
    file = tmp_path / "mine.py"
    body = f"""
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.rnn, self.out = nn.Embedding(9, 4), nn.LSTM(4, 4), nn.Linear(4, 9)
        if {tied}:
            self.out.weight = self.words.weight
    def forward(self, input):
        return self.out(self.rnn(self.words(input))[0])

def loss(output, targets):
    return output.sum() * 0 + 5

def make():
    torch.seed()
    inputs = torch.randint(9, (8, 2))
    return Workload(
        speed=Subject(model=Model(), stream=Stream(inputs=inputs, targets=inputs), origin="a"),
        loss=Subject(model=Model(), stream=Stream(inputs=inputs, targets=inputs, loss=loss), origin="b"),
    )
"""
    file.write_text(IMPORTS + body, encoding="utf-8")
    workload = load_user_workload(f"{file}:make")
    with dump_subjects(workload) as files:
        for dumped, file_of_subject in ((workload.speed, files.speed), (workload.loss, files.loss)):
            loaded = load_subject(file_of_subject)
            assert torch.equal(loaded.stream.inputs, dumped.stream.inputs)
            assert torch.equal(loaded.stream.targets, dumped.stream.targets)
            assert evaluate(loaded.model, loaded.stream, 3) == evaluate(dumped.model, dumped.stream, 3)
            assert not loaded.model.training
    assert evaluate(loaded.model, loaded.stream, 3) == 3 * 5 / (8 * 2)  # three windows


def test_workers_load_a_language_model_without_a_file_of_the_user():
    model = LSTMModel(ModelConfig(ntoken=9, ninp=3, nhid=4, nlayers=2)).eval()
    subject = Subject(model=model, stream=next_words(torch.arange(9).view(9, 1)), origin="")
    with dump_subjects(Workload(speed=subject, loss=subject)) as files:
        assert files.speed.folder == files.loss.folder
        loaded = load_subject(files.loss)
    assert evaluate(loaded.model, loaded.stream, 3) == evaluate(model, subject.stream, 3)


def test_workers_refuse_weights_that_do_not_fit_the_model_of_the_file(tmp_path):
    """The file may be another version in another environment."""
    file, source = tmp_path / "mine.py", TAGGER.read_text(encoding="utf-8")
    file.write_text(source, encoding="utf-8")
    with dump_subjects(load_user_workload(f"{file}:workload")) as files:
        file.write_text(source.replace("WIDTH = 5_000, 17, 256", "WIDTH = 5_000, 17, 128"), encoding="utf-8")
        with pytest.raises(ValueError, match=r"mine.py:workload .*size mismatch") as caught:
            load_subject(files.speed)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_session_leaves_out_a_scheme_that_breaks_the_model(tmp_path):
    """Its forward makes a state in the dtype of a weight, which is a method of an int8 module."""
    file = tmp_path / "mine.py"
    body = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(3, 3), nn.Linear(3, 3)
    def forward(self, input):
        zero = self.out.weight.new_zeros(1, input.shape[1], 3)
        return self.out(self.rnn(input, (zero, zero))[0])

def make():
    torch.manual_seed(0)
    stream = Stream(inputs=torch.randn(30, 2, 3), targets=torch.randint(3, (30, 2)))
    subject = Subject(model=Model(), stream=stream, origin="mine")
    return Workload(speed=subject, loss=subject)
"""
    file.write_text(IMPORTS + body, encoding="utf-8")
    plan = Plan(schemes=("int8", "bf16"), looks=(1,), blocks=1, slices=1, float32_slices=1, tokens=10)
    recording = measure(load_workload(spec=f"{file}:make"), plan, [Environment.here()], lambda recording: {})
    assert recording.here.absent.keys() == {"int8"}
    assert "has no attribute 'new_zeros'" in recording.here.absent["int8"]
    assert recording.here.fidelity.keys() == {"float32", "bf16"}
    assert recording.plan.columns == 2


@pytest.mark.slow
def test_session_of_two_environments_measures_the_example_of_the_docs(short_tagger):
    workload = load_workload(spec=short_tagger, tokens=40)
    here = Environment.here()
    plan = Plan(schemes=("int8",), looks=(1,), blocks=1, slices=3, float32_slices=2, tokens=10)
    recording = measure(workload, plan, [here, replace(here, name="there")], lambda recording: {})
    models = {"float32": workload.loss.model, "int8": quantize(workload.loss.model)}
    expected = compare_predictions(workload.loss.model, models, workload.loss.stream, 25)
    for environment in (recording.here, recording.there):
        assert environment.fidelity == expected
        assert all(seconds > 0 for seconds in environment.seconds["int8"][0])
