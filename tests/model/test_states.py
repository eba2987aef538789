"""Laws of the state of any module.

1. A state has any name, is keyword-only, several, or in lists, and is carried as a plain loop carries it. What is not a
   state is not passed; what cannot be decided is a line that says what to write.
2. The first state is that of the stream or of the model, whatever ``init_hidden`` takes.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lstmq import Subject, evaluate, quantize
from lstmq.model.states import StateArguments
from readers import STATES, WIDTH, carried_loss, make_stream, reader

# Law 1.


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("scheme", ["float32", "int8", "int8-embedding", "bf16"])
def test_state_is_carried(name, scheme):
    model, stream = reader(STATES[name]), make_stream()
    quantized = model if scheme == "float32" else quantize(model, scheme)
    assert evaluate(quantized, stream, 3) == pytest.approx(
        carried_loss(model, stream), rel=1e-5 if quantized is model else 0.02
    )


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.read(x, None)[0],
        lambda self, x, lengths=None: self.read(x, lengths)[0],
        lambda self, x, return_hidden=False: self.read(x, None)[0] if return_hidden is False else None,
        lambda self, x, hidden_size=WIDTH: self.read(x, None)[0] if hidden_size == WIDTH else None,
    ],
)
def test_what_is_not_a_state_is_not_passed(forward):
    model, stream = reader(forward), make_stream(steps=21)
    losses = [carried_loss(model, window) for window in stream.windows(7)]
    assert evaluate(model, stream, 7) == pytest.approx(sum(losses) / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x, memo=None: self.read(x, memo), r"found tuple of 2: pass Subject\(\.\.\., call=function\)"),
        (lambda self, x, hx: (x, hx, 3), r"expected \(output, hx\) from Model, found tuple of 3: .* call=function"),
        (lambda self, x, h, c: (x, h), r"expected \(output, h, c\) from Model, found tuple of 2"),
        (lambda self, x: {"logits": x, "loss": 3}, r"found dict with logits, loss: .*\['logits'\]"),
        (lambda self, x, mask: x + mask, "lstmq passed None for mask, as a state before the first window"),
        (lambda self, x, hidden, mask: x, "missing 1 required positional argument: 'mask'"),
    ],
)
def test_what_cannot_be_decided_is_a_line_that_says_what_to_write(forward, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        evaluate(reader(forward), make_stream(), 3)
    assert "\n" not in str(caught.value)


def test_signature_without_parameters_has_no_state():
    module = SimpleNamespace(forward=lambda *args, **kwargs: None)
    assert StateArguments.of(module, torch.zeros(1), has_first_state=True).names == ()


# Law 2.


FIRST = [
    lambda self, bsz: self.ones(bsz, next(self.parameters())),
    lambda self, batch_size=1: self.ones(batch_size, next(self.parameters())),
    lambda self, *, bsz: self.ones(bsz, next(self.parameters())),
    lambda self: self.ones(2, next(self.parameters())),
    lambda self, device=None: self.ones(2, next(self.parameters())),
    lambda self, bsz: self.ones(bsz, self.rnn.weight_ih_l0),
    lambda self, bsz: self.ones(bsz, self.out.weight),
]


@pytest.mark.parametrize("init_hidden", FIRST)
@pytest.mark.parametrize("scheme", ["int8", "int8-embedding", "int8-embedding4", "bf16"])
def test_first_state_is_that_of_the_float_model(init_hidden, scheme):
    model = reader(STATES["h0"], init_hidden)
    type(model).ones = lambda self, bsz, weight: (weight.new_ones(1, bsz, WIDTH),) * 2
    subject = Subject(model=model, stream=make_stream(steps=2), origin="")
    with torch.no_grad():
        output, _ = model.read(subject.stream.inputs, (torch.ones(1, 2, WIDTH),) * 2)
    expected = F.cross_entropy(output.flatten(0, 1), subject.stream.targets.flatten()).item()
    assert evaluate(model, subject.stream, 1) == pytest.approx(expected, rel=1e-5)
    assert evaluate(quantize(model, scheme), subject.stream, 1) == pytest.approx(expected, rel=0.01)
    assert carried_loss(model, subject.stream) != pytest.approx(expected, rel=0.01)


def test_first_state_of_a_bare_quantized_model_may_ask_its_parameters():
    model = reader(STATES["hidden"], lambda self, bsz: (next(self.parameters()).new_zeros(1, bsz, WIDTH),) * 2)
    assert evaluate(quantize(model, "int8-embedding"), make_stream(), 3) == pytest.approx(
        carried_loss(model, make_stream()), rel=0.02
    )


@pytest.mark.parametrize(
    ("init_hidden", "message"),
    [
        (
            lambda self, bsz, device: None,
            r"init_hidden takes \(bsz, device\): pass Stream\(\.\.\., first_state=function\)",
        ),
        (lambda self, bsz: self.nothing, "the first state of Model: AttributeError: 'Model' .*'nothing'"),
        (lambda self, bsz: next(iter(())), "the first state of Model: StopIteration"),
    ],
)
def test_first_state_that_fails_is_one_line(init_hidden, message):
    with pytest.raises(ValueError, match=message):
        evaluate(reader(STATES["hidden"], init_hidden), make_stream(), 3)


def test_init_hidden_is_not_called_for_a_forward_without_a_state():
    model = reader(lambda self, x: self.read(x, None)[0], lambda self: 1 / 0)
    assert evaluate(model, make_stream(), 20) == pytest.approx(carried_loss(model, make_stream()), rel=1e-5)
