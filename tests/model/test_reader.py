"""Laws of reading a stream with any module. ``test_states.py`` has those of its state.

1. Every model reads a window with the same random numbers, and the caller's random numbers go on as before.
2. A stream whose first dimensions a module reads the other way round is asked about.
3. Targets of -100 do not count, and several targets of a step each count.
4. Inputs and outputs are tensors, tuples or dictionaries.
"""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig, Stream, Subject, evaluate, quantize
from lstmq.comparison.fidelity import compare_predictions
from readers import CLASSES, STATES, carried_loss, make_stream, reader

# Law 1.


DRAWS = {
    "torch": lambda shape: torch.rand(shape),
    "python": lambda shape: torch.full(shape, random.random()),
    "numpy": lambda shape: torch.full(shape, float(np.random.rand())),  # noqa: NPY002
}


@pytest.mark.parametrize("source", DRAWS)
def test_models_read_a_window_with_the_same_random_numbers(source):
    seen = []

    def forward(self, x):
        noise = DRAWS[source]((*x.shape, 1))
        seen.append(noise.flatten()[0].item())
        return self.read(x, None)[0] + noise

    model, stream = reader(forward), make_stream()
    models = (model, model, quantize(model))
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    expected = DRAWS[source]((1,)).item()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    losses = [evaluate(each, stream, 7) for each in models]
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=0.02)
    assert seen[:3] == seen[3:6] == seen[6:]
    assert len({*seen}) == 3
    fidelity = compare_predictions(model, {"itself": model}, stream, 7)["itself"]
    assert (fidelity.kl, fidelity.agreement) == (0, 1)
    assert DRAWS[source]((1,)).item() == expected


# Law 2.


@given(st.integers(1, 6), st.integers(1, 8), st.integers(2, 16))
def test_stream_that_is_read_the_other_way_round_is_asked_about(columns, bptt, steps):
    model = reader(STATES["h0"], batch_first=True)
    stream = make_stream(steps, columns)
    if (min(bptt, steps), columns) == (1, 1):  # either way is the same
        evaluate(model, stream, bptt)
        return
    with pytest.raises(ValueError, match=r"rnn, a LSTM with batch_first=True, expected shape \(bsz, steps, \.\.\.\)"):
        evaluate(model, stream, bptt)
    swapped = Stream(inputs=stream.inputs.T, targets=stream.targets.T, batch_first=True)
    assert (len(swapped), swapped.columns, swapped.tokens) == (steps, columns, steps * columns)
    assert evaluate(model, swapped, bptt) == pytest.approx(carried_loss(reader(STATES["h0"]), stream), rel=1e-5)
    assert evaluate(quantize(model), swapped, bptt) == pytest.approx(evaluate(model, swapped, bptt), rel=0.05)


def test_batch_first_stream_of_a_time_first_model_is_asked_about():
    stream = Stream(inputs=make_stream().inputs.T, targets=make_stream().targets.T, batch_first=True)
    with pytest.raises(ValueError, match=r"with batch_first=False, expected shape .* found .* 1 steps and 2 columns"):
        evaluate(reader(STATES["h0"]), stream, 7)


def test_model_that_swaps_the_dimensions_itself_is_right():
    def forward(self, x):
        return self.read(x.T, None)[0].transpose(0, 1)

    model = reader(forward, batch_first=True)
    expected = carried_loss(reader(STATES["h0"]), make_stream())
    assert evaluate(model, make_stream(), 20) == pytest.approx(expected, rel=1e-5)


def test_batch_first_false_skips_the_question():
    model = reader(lambda self, x: self.read(x, None)[0], batch_first=True)
    assert evaluate(model, make_stream(batch_first=False), 7) > 0


def test_language_model_refuses_a_batch_first_stream(model):
    stream = Stream(inputs=torch.zeros(2, 5).long(), targets=torch.zeros(2, 5).long(), batch_first=True)
    with pytest.raises(ValueError, match=r"LSTMModel reads one tensor of ids, shape \(steps, bsz\)"):
        evaluate(model, stream, 5)


# Law 3.


@pytest.mark.parametrize("scheme", ["float32", "int8", "int8-native", "ort-fp32", "bf16"])
@given(ignored=st.lists(st.integers(0, 39), max_size=39), bptt=st.integers(1, 25))
def test_targets_that_torch_ignores_do_not_count(scheme, ignored, bptt):
    model = LSTMModel(ModelConfig(ntoken=9, ninp=4, nhid=4, nlayers=1), torch.Generator().manual_seed(0)).eval()
    ids = torch.randint(9, (21, 2), generator=torch.Generator().manual_seed(0))
    targets = ids[1:].clone()
    targets.view(-1)[ignored] = -100
    stream = Stream(inputs=ids[:-1], targets=targets)
    assert stream.num_targets == 40 - len({*ignored})
    quantized = model if scheme == "float32" else quantize(model, scheme)
    with torch.no_grad():
        output = quantized(ids[:-1], quantized.init_hidden(2))[0].float()
        reference = model(ids[:-1], model.init_hidden(2))[0]
    expected = F.cross_entropy(output.flatten(0, 1), targets.flatten()).item()
    assert evaluate(quantized, stream, bptt) == pytest.approx(expected, rel=1e-3)
    fidelity = compare_predictions(model, {"it": quantized}, stream, bptt)["it"]
    assert fidelity.loss == pytest.approx(expected, rel=1e-3)
    assert sum(fidelity.tokens) == stream.num_targets
    counted = targets.flatten() != -100
    log_p, log_q = (x.flatten(0, 1)[counted].log_softmax(1) for x in (reference, output))
    assert fidelity.kl == pytest.approx((log_p.exp() * (log_p - log_q)).sum(1).mean().item(), rel=0.05, abs=1e-5)


def test_stream_whose_targets_are_all_ignored_is_refused():
    stream = Stream(inputs=torch.zeros(5, 1).long(), targets=torch.full((5, 1), -100))
    model = reader(STATES["h0"])
    for read in (lambda: evaluate(model, stream, 2), lambda: compare_predictions(model, {"it": model}, stream, 2)):
        with pytest.raises(ValueError, match="expected a target that counts, found only -100"):
            read()


def test_loss_is_the_mean_over_all_targets_of_a_step():
    model = reader(lambda self, x: self.read(x.flatten(1), None)[0].unflatten(1, x.shape[1:]))
    ids = torch.randint(9, (10, 1, 6), generator=torch.Generator().manual_seed(0))
    stream = Stream(inputs=ids, targets=ids % CLASSES)
    with torch.no_grad():
        expected = F.cross_entropy(model(ids).flatten(0, 2), (ids % CLASSES).flatten()).item()
    assert evaluate(model, stream, 10) == pytest.approx(expected, rel=1e-5)
    assert (stream.tokens, stream.num_targets) == (10, 60)


def test_own_loss_may_count_its_targets():
    def loss(output, targets):
        real = targets > 0
        return F.cross_entropy(output[real], targets[real], reduction="sum"), int(real.sum())

    model, stream = reader(STATES["h0"]), make_stream(loss=loss)
    with torch.no_grad():
        output, _ = model.read(stream.inputs, None)
    expected = F.cross_entropy(output[stream.targets > 0], stream.targets[stream.targets > 0]).item()
    assert evaluate(model, stream, 7) == pytest.approx(expected, rel=1e-5)
    fidelity = compare_predictions(model, {"it": model}, stream, 7)["it"]
    assert (fidelity.loss, fidelity.kl) == (pytest.approx(expected, rel=1e-5), None)


# Law 4.


def add(self, x, more):
    return self.read(x, None)[0] + more


@pytest.mark.parametrize("inputs", [tuple, dict])
@pytest.mark.parametrize("scheme", ["float32", "int8", "bf16"])
def test_several_inputs_are_arguments_of_the_forward(inputs, scheme):
    model, plain = reader(add), make_stream()
    more = torch.randn(20, 2, CLASSES, generator=torch.Generator().manual_seed(0))
    both = (plain.inputs, more) if inputs is tuple else {"more": more, "x": plain.inputs}
    stream = Stream(inputs=both, targets=plain.targets)
    with torch.no_grad():
        expected = F.cross_entropy(add(model, plain.inputs, more).flatten(0, 1), plain.targets.flatten()).item()
    quantized = model if scheme == "float32" else quantize(model, scheme)
    assert evaluate(quantized, stream, 20) == pytest.approx(expected, rel=0.02)


def test_call_chooses_from_what_the_model_returns():
    model = reader(lambda self, x, memo=None: {"logits": self.read(x, memo)[0], "state": self.read(x, memo)[1]})

    def call(model, ids, state):
        result = model(ids, memo=state)
        return result["logits"], result["state"]

    subject = Subject(model=model, stream=make_stream(), origin="", call=call)
    assert evaluate(model, subject.stream, 3) == pytest.approx(carried_loss(model, make_stream()), rel=1e-5)
    alone = Subject(model=model, stream=make_stream(), origin="", call=lambda model, ids: model(ids)["logits"])
    assert evaluate(model, alone.stream, 20) == pytest.approx(carried_loss(model, make_stream()), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: None, r"expected call\(model, inputs\) or call\(model, inputs, state\), found call\(model\)"),
        (
            lambda model, x, state: model(x)[0],
            r"expected \(output, state\) from call\(model, inputs, state\), found Tensor",
        ),
    ],
)
def test_call_of_another_kind_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        evaluate(reader(STATES["h0"]), make_stream(call=call), 3)
