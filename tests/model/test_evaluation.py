"""Laws of the loss.

1. It is what an independent float64 LSTM computes.
2. It does not depend on how the stream is cut into windows.
3. A model that knows nothing has the loss log(ntoken).
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracle
from lstmq import batchify, evaluate, perplexity, quantize
from lstmq.model.evaluation import window_losses
from strategies import models, seeds, stream


@given(models(max_ntoken=12, max_width=6), st.integers(1, 3), st.integers(2, 8), st.integers(1, 9), seeds)
def test_the_loss_is_that_of_an_independent_lstm(model, bsz, steps, bptt, seed):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # far enough from 0 that the gates bend
    source = batchify(stream(model.config.ntoken, steps * bsz, seed), bsz)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    expected = oracle.loss(state, model.config.nlayers, source.numpy())
    assert evaluate(model, source, bptt) == pytest.approx(expected, rel=1e-5)


@given(models(), st.integers(1, 4), st.integers(2, 50), st.integers(1, 60), st.integers(1, 60), seeds)
def test_the_loss_does_not_depend_on_the_window(model, bsz, steps, bptt, other, seed):
    source = batchify(stream(model.config.ntoken, steps * bsz, seed), bsz)
    assert evaluate(model, source, bptt) == pytest.approx(evaluate(model, source, other), rel=1e-5)


@given(models(), st.integers(1, 4), st.integers(2, 20), st.integers(1, 25), seeds)
def test_a_zero_decoder_hesitates_among_all_words(model, bsz, steps, bptt, seed):
    torch.nn.init.zeros_(model.decoder.weight)
    source = batchify(stream(model.config.ntoken, steps * bsz, seed), bsz)
    loss = evaluate(model, source, bptt)
    assert loss == pytest.approx(math.log(model.config.ntoken), rel=1e-6)
    assert perplexity(loss) == pytest.approx(model.config.ntoken, rel=1e-5)


@given(models(), st.integers(2, 20), st.integers(1, 25))
def test_the_windows_losses_are_of_every_target_once(model, steps, bptt):
    source = batchify(stream(model.config.ntoken, 3 * steps, 0), 3)
    losses = list(window_losses(model, source, bptt))
    assert sum(loss.tokens for loss in losses) == 3 * (steps - 1)
    assert len(losses) == math.ceil((steps - 1) / bptt)


def test_every_module_is_put_back_into_its_own_mode(model):
    source = batchify(stream(30, 10, 0), 1)
    model.train()
    model.drop.eval()
    evaluate(model, source, 5)
    assert model.training
    assert model.rnn.training
    assert not model.drop.training
    with pytest.raises(IndexError):
        model.encoder.weight.data = model.encoder.weight.data[:5]
        evaluate(model, source, 5)
    assert model.training


def test_a_model_in_training_mode_is_evaluated_without_dropout(model):
    source = batchify(stream(30, 10, 0), 1)
    assert evaluate(model.train(), source, 5) == evaluate(model.eval(), source, 5)


def test_the_loss_of_a_bfloat16_model_is_float32(model):
    """A cross-entropy in bfloat16 has three digits."""
    source, half = batchify(stream(30, 41, 0), 1), quantize(model, "bf16")
    with torch.no_grad():
        logits, _ = half(source[:-1], half.init_hidden(1))
    assert logits.dtype == torch.bfloat16
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), source[1:, 0]).item()
    assert evaluate(half, source, 40) == pytest.approx(expected, rel=1e-6)


def test_nothing_is_recorded_for_backpropagation(model):
    model.decoder.register_forward_hook(lambda module, inputs, output: recorded.append(output.requires_grad))
    recorded = []
    evaluate(model, batchify(stream(30, 10, 0), 1), 5)
    assert recorded == [False, False]
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    for _ in window_losses(model, batchify(stream(30, 10, 0), 1), 5):
        assert not torch.is_inference_mode_enabled()  # the reader's mode is its own between windows, too


@pytest.mark.parametrize(
    ("source", "bptt", "message"),
    [
        (torch.zeros(1, 2, dtype=torch.int64), 5, r"shape \(1, 2\) has no target"),
        (torch.zeros(0, 2, dtype=torch.int64), 5, r"shape \(0, 2\) has no target"),
        (torch.zeros(9, 2, dtype=torch.int64), 0, "at least 1 step, found 0"),
        (torch.full((9, 2), 30), 5, "30 words, but the source holds the id 30"),
        (torch.full((9, 2), -1), 5, "30 words, but the source holds the id -1"),
        (torch.zeros(9, dtype=torch.int64), 5, r"expected a source of shape \(steps, bsz\)"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(model, source, bptt, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, source, bptt)


def test_perplexity_has_no_end():
    assert perplexity(0) == 1
    assert perplexity(1e6) == math.inf
