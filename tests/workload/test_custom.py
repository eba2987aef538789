"""Laws of a workload of your own: any module with a stream is measured as the built-in one; bad ones are one line."""

import copy
import json
import subprocess
import sys
from dataclasses import asdict, replace
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
from lstmq.gate.processes import HERE, THERE, Environment
from lstmq.gate.runs import describe_workload
from lstmq.gate.session import Plan, measure
from lstmq.gate.transfer import dump_subjects, load_subject
from lstmq.report.tables import comparison_table
from lstmq.workload.custom import load_user_workload
from lstmq.workload.loading import load_workload

TAGGER = Path(__file__).parents[2] / "docs" / "tagger"
TEXT = (TAGGER / "tagger.py").read_text(encoding="utf-8")
PLACE = f"{TAGGER / 'tagger.py'}:workload"
BEGINNING = """
import torch
from torch import nn
from lstmq import Stream, Subject, Workload
"""


class Carried(nn.Module):
    """Carries a state that begins as None; reads real numbers, and makes real numbers."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, input, hidden):
        output, hidden = self.rnn(input, hidden)
        return self.out(output), hidden


class Alone(nn.Module):
    """Carries nothing."""

    def __init__(self):
        super().__init__()
        self.words, self.rnn, self.out = nn.Embedding(9, 4), nn.LSTM(4, 5), nn.Linear(5, 9)
        self.out.bias = nn.Parameter(torch.arange(9.0))

    def forward(self, input):
        return self.out(self.rnn(self.words(input))[0])


def squares(output, targets):
    return ((output - targets) ** 2).sum()


def carried(steps=60, bsz=2, own=True):
    torch.manual_seed(0)
    targets = torch.randn(steps, bsz, 2) if own else torch.randint(2, (steps, bsz))
    stream = Stream(inputs=torch.randn(steps, bsz, 3), targets=targets, loss=squares if own else None)
    return Subject(model=Carried().eval(), stream=stream, origin="real numbers")


def alone(steps=60, bsz=1):
    words = torch.randint(9, (steps + 1, bsz), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    return Subject(model=Alone().eval(), stream=next_words(words), origin="words")


@torch.no_grad()
@pytest.mark.parametrize("own", [True, False])
def test_a_state_that_begins_as_none_is_carried_from_window_to_window(own):
    subject = carried(own=own)
    output, _ = subject.model(subject.stream.inputs, None)
    total = subject.stream.summed_loss(output).item() / subject.stream.tokens
    for bptt in (1, 7, 60, 99):
        assert evaluate(subject.model, subject.stream, bptt) == pytest.approx(total, rel=1e-5)


@torch.no_grad()
def test_without_a_state_every_window_stands_alone():
    subject = alone()
    windows = subject.stream.windows(12)
    losses = [F.cross_entropy(subject.model(each.inputs)[:, 0], each.targets[:, 0]).item() for each in windows]
    assert evaluate(subject.model, subject.stream, 12) == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert evaluate(subject.model, subject.stream, 60) != pytest.approx(sum(losses) / 5, rel=1e-5)


class Form(nn.Module):
    """A forward of any form; what it is called with is noted."""

    def __init__(self, forward, init_hidden=None):
        super().__init__()
        self.layer, self.seen = nn.Linear(1, 1), []
        self.forward = forward.__get__(self)
        if init_hidden:
            self.init_hidden = init_hidden


FORMS = [
    (lambda self, x: (self.seen.append("alone"), x)[1], "alone"),
    (lambda self, x, lengths=None: (self.seen.append(lengths), x)[1], None),
    (lambda self, x, *, mask=3: (self.seen.append(mask), x)[1], 3),
    (lambda self, x, **others: (self.seen.append(len(others)), x)[1], 0),
    (lambda self, x, anything: (self.seen.append(anything), (x, "next"))[1], "next"),
    (lambda self, x, hidden=None: (self.seen.append(hidden), (x, "next"))[1], "next"),
    (lambda self, x, hx=None, mask=None: (self.seen.append(hx), (x, "next"))[1], "next"),
]


@pytest.mark.parametrize(("forward", "seen"), FORMS)
def test_a_forward_with_a_state_is_known_from_one_without(forward, seen):
    model = Form(forward)
    evaluate(model, Stream(inputs=torch.zeros(2, 1, 1), targets=torch.zeros(2, 1, 1), loss=squares), 1)
    assert model.seen == [None if seen == "next" else seen, seen]


def test_a_state_of_any_shape_begins_as_the_model_says_and_is_cast_with_it():
    def forward(self, input, state):
        self.seen.append(state)
        return input, state

    model = Form(forward, lambda bsz: (torch.zeros(bsz), (torch.zeros(bsz, dtype=torch.int64), None)))
    stream = Stream(inputs=torch.zeros(1, 3, 1), targets=torch.zeros(1, 3, 1), loss=squares)
    for dtype in (torch.float32, torch.bfloat16):
        evaluate(model.to(dtype), stream, 1)
        first, (second, third) = model.seen[-1]
        assert (first.dtype, second.dtype, third) == (dtype, torch.int64, None)
        assert first.shape == (3,)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: (x, None), "expected a tensor of Form, found tuple"),
        (lambda self, x, hidden: x.tolist(), r"expected \(output, hidden\) of Form, found list"),
        (lambda self, x, hidden: (x, hidden, 3), r"expected \(output, hidden\) of Form, found tuple"),
    ],
)
def test_a_forward_that_gives_something_else_is_refused(forward, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Form(forward), Stream(inputs=torch.zeros(2, 1, 1), targets=torch.zeros(2, 1, 1)), 1)


@pytest.mark.parametrize("scheme", ["int8", "bf16"])
@pytest.mark.parametrize("make", [carried, alone])
def test_schemes_are_near_float32_on_any_module(make, scheme):
    subject = make()
    other = quantize(subject.model, scheme)
    loss = evaluate(subject.model, subject.stream, 12)
    assert evaluate(other, subject.stream, 12) == pytest.approx(loss, rel=0.05)
    assert evaluate(other, subject.stream, 12) != loss


def test_of_a_loss_of_its_own_there_is_no_divergence():
    for subject in (carried(), carried(own=False), alone()):
        models = {"float32": subject.model, "int8": quantize(subject.model)}
        told = compare_predictions(subject.model, models, subject.stream, 12)
        own = subject.stream.loss is not None
        for name, model in models.items():
            assert told[name].loss == pytest.approx(evaluate(model, subject.stream, 12), rel=1e-6)
            assert (told[name].kl is None) is (told[name].agreement is None) is own
        assert own or (told["float32"].kl == 0 and told["int8"].kl > 0)


def test_a_perplexity_is_of_a_cross_entropy_alone():
    for own in (True, False):
        subject = carried(own=own)
        rows = compare(Workload(speed=subject, loss=subject), ["int8"], 12)
        assert all((row.perplexity is None) is own for row in rows)
        Console(file=(shown := StringIO()), width=100).print(comparison_table(rows))
        assert [len(line.split()) for line in shown.getvalue().splitlines()[1:]] == [8 if own else 9] * 2


def test_agreement_is_a_share_of_targets_however_many_a_place_has():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 12)

        def forward(self, input):
            return self.layer(input).unflatten(-1, (4, 3))  # 4 targets a place, of 3 classes

    model = Many()
    stream = Stream(inputs=torch.randn(9, 2, 3), targets=torch.randint(3, (9, 2, 4)))
    told = compare_predictions(model, {"itself": model}, stream, 5)["itself"]
    assert (told.kl, told.agreement) == (0, 1)
    assert told.loss == pytest.approx(evaluate(model, stream, 5), rel=1e-6)


# Handing over.


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_handed_over_has_these_weights_this_stream_and_the_files_code(tmp_path, tied):
    """The file draws its weights anew each time it is run."""
    file = tmp_path / "mine.py"
    file.write_text(
        BEGINNING
        + f"""
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
""",
        encoding="utf-8",
    )
    workload = load_user_workload(f"{file}:make")
    assert workload.made_by == f"{file}:make"
    with dump_subjects(workload) as parcels:
        parcels = json.loads(json.dumps(parcels))
        for which in ("speed", "loss"):
            mine, taken = getattr(workload, which), load_subject(parcels[which])
            assert torch.equal(mine.stream.inputs, taken.stream.inputs)
            assert torch.equal(mine.stream.targets, taken.stream.targets)
            assert evaluate(mine.model, mine.stream, 3) == evaluate(taken.model, taken.stream, 3)
            assert not taken.model.training
    assert evaluate(taken.model, taken.stream, 3) == 3 * 5 / (8 * 2)  # three windows


def test_a_language_model_is_handed_over_without_any_file_of_its_own():
    model = LSTMModel(ModelConfig(ntoken=9, ninp=3, nhid=4, nlayers=2)).eval()
    subject = Subject(model=model, stream=next_words(torch.arange(9).view(9, 1)), origin="")
    with dump_subjects(Workload(speed=subject, loss=subject)) as parcels:
        assert parcels["speed"]["folder"] == parcels["loss"]["folder"]
        taken = load_subject(parcels["loss"])
    assert evaluate(taken.model, taken.stream, 3) == evaluate(model, subject.stream, 3)


def test_weights_of_another_model_are_refused_in_one_line(tmp_path):
    """Of another commit of the file, say."""
    file = tmp_path / "mine.py"
    file.write_text(TEXT, encoding="utf-8")
    with dump_subjects(load_user_workload(f"{file}:workload")) as parcels:
        file.write_text(TEXT.replace("WIDTH = 5_000, 17, 256", "WIDTH = 5_000, 17, 128"), encoding="utf-8")
        with pytest.raises(ValueError, match=r"mine.py:workload: another model than there: .*size mismatch") as caught:
            load_subject(parcels["speed"])
    assert "\n" not in str(caught.value)


def test_threads_stay_as_they_were(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(TEXT.replace("torch.manual_seed(0)", "torch.set_num_threads(2)"), encoding="utf-8")
    load_user_workload(f"{file}:workload")
    assert torch.get_num_threads() == 1


# From end to end.


def test_what_a_scheme_makes_of_a_model_that_cannot_bear_it_is_not_measured(tmp_path):
    """Its state has the dtype of its first parameter, and in int8 it has none."""
    file = tmp_path / "mine.py"
    body = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 3)
    def init_hidden(self, bsz):
        zero = next(self.parameters()).new_zeros(1, bsz, 3)
        return zero, zero
    def forward(self, input, hidden):
        return self.rnn(input, hidden)

def make():
    torch.manual_seed(0)
    stream = Stream(inputs=torch.randn(30, 2, 3), targets=torch.randint(3, (30, 2)))
    subject = Subject(model=Model(), stream=stream, origin="mine")
    return Workload(speed=subject, loss=subject)
"""
    file.write_text(BEGINNING + body, encoding="utf-8")
    plan = Plan(schemes=("int8", "bf16"), workers=1, pairs=1, tokens=10)
    recording = measure(load_workload(place=f"{file}:make"), plan, [Environment.here()])
    told = recording.environments[HERE]
    assert told["absent"].keys() == {"int8"}
    assert "StopIteration" in told["absent"]["int8"]
    assert told["fidelity"].keys() == {"float32", "bf16"}
    assert recording.plan["columns"] == 2


def test_real_workers_measure_the_example():
    workload = load_workload(place=PLACE, tokens=40)
    here = Environment.here()
    plan = Plan(schemes=("int8",), workers=1, pairs=2, more=1, tokens=10)
    recording = measure(workload, plan, [here, replace(here, name=THERE)])
    expected = compare_predictions(
        workload.loss.model,
        {"float32": workload.loss.model, "int8": quantize(workload.loss.model)},
        workload.loss.stream,
        25,
    )
    for name in (HERE, THERE):
        told = recording.environments[name]["fidelity"]
        assert told == {key: asdict(each) for key, each in expected.items()}
        assert all(t > 0 for t in recording.seconds[name]["int8"][0])


def test_a_comparison_of_the_example():
    result = CliRunner().invoke(main, ["compare", "--workload", PLACE, "--tokens", "50", "--scheme", "int8"])
    assert result.exit_code == 0, result.output
    assert "size and speed: a tagger with seeded weights, 50 steps of it" in result.output
    assert "loss: a tagger with seeded weights\n" in result.output
    assert "(tags): Linear" in result.output


def test_fewer_steps_are_timed_and_the_fingerprint_is_of_them():
    whole, some = load_workload(place=PLACE), load_workload(place=PLACE, tokens=50)
    assert (len(whole.speed.stream), len(some.speed.stream)) == (3_000, 50)
    assert len(some.loss.stream) == 3_000
    assert whole.loss is whole.speed
    assert len(load_workload(place=PLACE, at_most=70).speed.stream) == 70
    prints = [describe_workload(each)["fingerprint"] for each in (whole, some, copy.deepcopy(whole))]
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no function make"),
        ("make = 3", "there is no function make"),
        ("def make(", "SyntaxError"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def make():\n    raise KeyError('a\\nb')", "KeyError"),
        ("def make():\n    raise SystemExit", "SystemExit"),
        ("def make(model):\n    return model", "TypeError"),
        ("def make():\n    return 3", "expected it to return a Workload, found int"),
        (
            BEGINNING + "def make():\n    return Workload(speed=3, loss=3)",
            "expected subjects, found int",
        ),
        (
            BEGINNING
            + "def make():\n    s = Subject(model=3, stream=3, origin='')\n    return Workload(speed=s, loss=s)",
            "expected a Module, found int",
        ),
        (
            BEGINNING
            + "def make():\n"
            + "    s = Subject(model=nn.LSTM(3, 3), stream=torch.zeros(3, 1), origin='')\n"
            + "    return Workload(speed=s, loss=s)",
            "expected a Stream, found Tensor",
        ),
        (
            BEGINNING
            + "class Model(nn.Linear):\n"
            + "    def get_extra_state(self):\n        return 3\n"
            + "def make():\n"
            + "    stream = Stream(inputs=torch.zeros(3, 1), targets=torch.zeros(3, 1))\n"
            + "    s = Subject(model=Model(3, 3), stream=stream, origin='')\n"
            + "    return Workload(speed=s, loss=s)",
            "expected a state of dense tensors alone, found _extra_state in it",
        ),
        (
            TEXT.replace("words % TAGS", "words").replace("workload()", "make()"),
            "make: IndexError: Target",
        ),
        (
            BEGINNING + "def make():\n    return Stream(inputs=torch.zeros(3, 1), targets=torch.zeros(2, 1))",
            "expected inputs and targets of shape",
        ),
    ],
)
def test_a_file_that_makes_no_workload_is_refused_in_one_line(tmp_path, text, reason):
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(main, ["compare", "--workload", f"{file}:make"])
    assert result.exit_code == 2
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["nowhere.py:make"], "no such file: nowhere.py"),
        (["tagger.py"], "expected a workload as FILE.py:FUNCTION, found 'tagger.py'"),
        ([f"{TAGGER / 'limits.toml'}:make"], "expected a workload as FILE.py:FUNCTION"),
        ([PLACE, "--tokens", "3001"], "the stream holds 3,000 steps: expected 1 to that many, found 3,001"),
        ([PLACE, "--tokens", "0"], "expected 1 to that many, found 0"),
        ([PLACE, "--corpus", "data/sample"], "no corpus, checkpoint or vocabulary"),
    ],
)
def test_a_wrong_option_is_one_line(options, reason):
    result = CliRunner().invoke(main, ["compare", "--workload", *options])
    assert result.exit_code == 2
    assert reason in result.output
    assert len(result.output.splitlines()) == 1


def test_a_file_may_import_what_lies_beside_it_which_hides_nothing(tmp_path):
    (tmp_path / "beside_it.py").write_text("VALUE = 7\n", encoding="utf-8")
    (tmp_path / "wave.py").write_text("VALUE = 8\n", encoding="utf-8")  # so is a module of Python's called
    file = tmp_path / "torch.py"  # the name of a module that it imports
    body = (
        "import wave\nfrom beside_it import VALUE\ndef make():\n    raise ValueError(VALUE, hasattr(wave, 'VALUE'))\n"
    )
    file.write_text(BEGINNING + body, encoding="utf-8")
    code = f"from lstmq.custom import load_custom; load_custom({f'{file}:make'!r})"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert process.stderr.splitlines()[-1].endswith("torch.py:make: (7, False)")
