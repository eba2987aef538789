"""Laws of fidelity: an independent LSTM finds the same divergence; a model is as near to itself as can be."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from lstmq import LSTMModel, batchify, evaluate, quantize
from lstmq.comparison.fidelity import Fidelity, compare_predictions
from lstmq.model.evaluation import window_losses
from lstmq.text.streams import next_words
from strategies import models, seeds, stream


def disturbed(model, seed, by):
    """Return a copy of the model with noise in its weights."""
    generator = torch.Generator().manual_seed(seed)
    other = LSTMModel(model.config, generator)
    with torch.no_grad():
        for mine, its in zip(other.parameters(), model.parameters(), strict=True):
            mine.copy_(its + by * torch.randn(its.shape, generator=generator))
    return other


def state(model):
    return {key: value.numpy() for key, value in model.state_dict().items()}


@settings(max_examples=40)
@given(models(max_ntoken=12, max_width=6), st.integers(2, 12), st.integers(1, 9), st.sampled_from([0.1, 1.0]), seeds)
def test_loss_divergence_and_agreement_are_those_of_an_independent_lstm(model, steps, bptt, by, seed):
    source, other = batchify(stream(model.config.ntoken, steps, seed), 1), disturbed(model, seed, by)
    found = compare_predictions(model, {"other": other}, next_words(source), bptt)["other"]
    log_p, log_q = (
        oracle.predictions(state(each), model.config.nlayers, source[:, 0].numpy()) for each in (model, other)
    )
    assert found.kl == pytest.approx((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean(), rel=1e-3, abs=1e-6)
    assert found.loss == pytest.approx(oracle.loss(state(other), model.config.nlayers, source.numpy()), rel=1e-5)
    margins = [np.diff(np.sort(each)[:, -2:]).min() for each in (log_p, log_q)]
    if min(margins) > 1e-4:  # or rounding decides which word is the likeliest
        assert found.agreement == np.mean(log_p.argmax(axis=1) == log_q.argmax(axis=1))


@settings(max_examples=40)
@given(models(), st.integers(2, 40), st.integers(1, 25), seeds)
def test_a_model_is_as_near_to_itself_as_can_be(model, steps, bptt, seed):
    source = batchify(stream(model.config.ntoken, steps, seed), 1)
    itself = compare_predictions(model, {"itself": model, "copy": disturbed(model, 0, 0)}, next_words(source), bptt)
    assert (itself["itself"].kl, itself["itself"].agreement) == (0, 1)
    assert itself["copy"] == itself["itself"]


@settings(max_examples=40)
@given(models(max_width=8), st.sampled_from(["int8", "int8-embedding", "bf16"]), st.integers(1, 25), seeds)
def test_no_divergence_is_negative_and_no_share_more_than_all(model, scheme, bptt, seed):
    source = batchify(stream(model.config.ntoken, 30, seed), 1)
    found = compare_predictions(model, {scheme: quantize(model, scheme)}, next_words(source), bptt)[scheme]
    assert found.kl > -1e-6  # sums of float32
    assert 0 <= found.agreement <= 1
    assert len(found.losses) == len(found.tokens) == math.ceil(29 / bptt)
    assert sum(found.tokens) == 29


@settings(max_examples=40)
@given(models(), st.sampled_from(["float32", "int8", "bf16"]), st.integers(2, 40), st.integers(1, 25), seeds)
def test_the_losses_are_those_of_evaluate(model, scheme, steps, bptt, seed):
    source = batchify(stream(model.config.ntoken, steps, seed), 1)
    candidate = model if scheme == "float32" else quantize(model, scheme)
    found = compare_predictions(model, {scheme: candidate}, next_words(source), bptt)[scheme]
    expected = [*window_losses(candidate, source, bptt)]
    assert found.tokens == [window.tokens for window in expected]
    assert found.losses == pytest.approx([window.total / window.tokens for window in expected], rel=1e-5)
    assert found.loss == pytest.approx(evaluate(candidate, source, bptt), rel=1e-5)


@settings(max_examples=40)
@given(models(max_ntoken=12), st.integers(1, 30), st.integers(1, 30), seeds)
def test_the_divergence_does_not_depend_on_the_window(model, bptt, other, seed):
    source, quantized = batchify(stream(model.config.ntoken, 30, seed), 1), {"int8": disturbed(model, seed, 0.5)}
    one, another = (
        compare_predictions(model, quantized, next_words(source), window)["int8"] for window in (bptt, other)
    )
    assert one.kl == pytest.approx(another.kl, rel=1e-3, abs=1e-6)
    assert one.loss == pytest.approx(another.loss, rel=1e-5)


def test_models_are_put_back_into_their_modes_and_are_read_without_dropout(model):
    source = batchify(stream(30, 20, 0), 1)
    model.train()
    model.drop.p = 0.9
    assert compare_predictions(model, {"itself": model}, next_words(source), 7)["itself"].kl == 0
    assert model.training
    assert not torch.is_inference_mode_enabled()


def test_windows_weigh_what_they_hold():
    assert Fidelity(losses=[1.0, 4.0], tokens=[2, 1]).loss == 2
