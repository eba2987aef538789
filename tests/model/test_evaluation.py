"""Laws of the loss.

1. It equals the loss that an independent LSTM in float64 computes.
2. It does not depend on how the stream is cut into windows.
3. A model that finds all words equally likely has the loss log(ntoken).
4. Evaluation leaves the model, its modes and torch's modes as they were.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracle
from lstmq import batchify, evaluate, perplexity, quantize
from lstmq.model.evaluation import window_losses
from strategies import models, random_ids, seeds


@given(models(max_ntoken=12, max_width=6), st.integers(1, 3), st.integers(2, 8), st.integers(1, 9), seeds)
def test_evaluate_equals_an_independent_float64_lstm(model, bsz, steps, bptt, seed):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # large enough for the gates to saturate
    source = batchify(random_ids(model.config.ntoken, steps * bsz, seed), bsz)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    expected = oracle.loss(state, model.config.nlayers, source.numpy())
    assert evaluate(model, source, bptt) == pytest.approx(expected, rel=1e-5)


@given(models(), st.integers(1, 4), st.integers(2, 50), st.integers(1, 60), st.integers(1, 60), seeds)
def test_evaluate_does_not_depend_on_bptt(model, bsz, steps, bptt, other, seed):
    source = batchify(random_ids(model.config.ntoken, steps * bsz, seed), bsz)
    assert evaluate(model, source, bptt) == pytest.approx(evaluate(model, source, other), rel=1e-5)


@given(models(), st.integers(1, 4), st.integers(2, 20), st.integers(1, 25), seeds)
def test_evaluate_of_a_zero_decoder_is_the_log_of_the_number_of_words(model, bsz, steps, bptt, seed):
    torch.nn.init.zeros_(model.decoder.weight)
    source = batchify(random_ids(model.config.ntoken, steps * bsz, seed), bsz)
    loss = evaluate(model, source, bptt)
    assert loss == pytest.approx(math.log(model.config.ntoken), rel=1e-6)
    assert perplexity(loss) == pytest.approx(model.config.ntoken, rel=1e-5)


@given(models(), st.integers(2, 20), st.integers(1, 25))
def test_window_losses_count_each_target_once(model, steps, bptt):
    source = batchify(random_ids(model.config.ntoken, 3 * steps, 0), 3)
    losses = list(window_losses(model, source, bptt))
    assert sum(loss.tokens for loss in losses) == 3 * (steps - 1)
    assert len(losses) == math.ceil((steps - 1) / bptt)


def test_evaluate_restores_the_mode_of_each_module(model):
    source = batchify(random_ids(30, 10, 0), 1)
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


def test_evaluate_does_not_apply_dropout(model):
    source = batchify(random_ids(30, 10, 0), 1)
    assert evaluate(model.train(), source, 5) == evaluate(model.eval(), source, 5)


def test_evaluate_computes_the_loss_of_a_bfloat16_model_in_float32(model):
    """A cross-entropy in bfloat16 would have three digits."""
    source, half = batchify(random_ids(30, 41, 0), 1), quantize(model, "bf16")
    with torch.no_grad():
        logits, _ = half(source[:-1], half.init_hidden(1))
    assert logits.dtype == torch.bfloat16
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), source[1:, 0]).item()
    assert evaluate(half, source, 40) == pytest.approx(expected, rel=1e-6)


def test_evaluate_records_nothing_for_backpropagation(model):
    model.decoder.register_forward_hook(lambda module, inputs, output: recorded.append(output.requires_grad))
    recorded = []
    evaluate(model, batchify(random_ids(30, 10, 0), 1), 5)
    assert recorded == [False, False]
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    for _ in window_losses(model, batchify(random_ids(30, 10, 0), 1), 5):
        assert not torch.is_inference_mode_enabled()  # the caller's code between windows is not affected either


@pytest.mark.parametrize(
    ("source", "bptt", "message"),
    [
        (torch.zeros(1, 2, dtype=torch.int64), 5, r"at least 2 steps and 1 column, found shape \(1, 2\)"),
        (torch.zeros(9, 2, dtype=torch.int64), 0, "at least 1 step, found 0"),
        (torch.full((9, 2), 30), 5, "30 words, but the source contains the id 30"),
        (torch.full((9, 2), -1), 5, "30 words, but the source contains the id -1"),
        (torch.zeros(9, dtype=torch.int64), 5, r"expected ids of shape \(steps, bsz\)"),
    ],
)
def test_evaluate_refuses_a_wrong_source_or_bptt(model, source, bptt, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, source, bptt)


def test_perplexity_of_a_huge_loss_is_infinite():
    assert perplexity(0) == 1
    assert perplexity(1e6) == math.inf
