"""Laws of fidelity: losses and divergence equal those of an independent LSTM, and a model equals itself."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from lstmq import LSTMModel, batchify, evaluate, next_words, quantize
from lstmq.comparison.fidelity import Fidelity, compare_predictions
from lstmq.model.evaluation import window_losses
from strategies import models, random_ids, seeds


def disturb(model, seed, size):
    """Return a copy of the model with noise in its weights."""
    generator = torch.Generator().manual_seed(seed)
    copy = LSTMModel(model.config, generator)
    with torch.no_grad():
        for target, source in zip(copy.parameters(), model.parameters(), strict=True):
            target.copy_(source + size * torch.randn(source.shape, generator=generator))
    return copy


def numpy_state(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def compare_one(model, candidate, source, bptt):
    """Return the fidelity of one candidate on a batchified source."""
    return compare_predictions(model, {"candidate": candidate}, next_words(source), bptt)["candidate"]


@given(models(max_ntoken=12, max_width=6), st.integers(2, 12), st.integers(1, 9), st.sampled_from([0.1, 1.0]), seeds)
def test_loss_divergence_and_agreement_equal_those_of_the_oracle(model, steps, bptt, size, seed):
    source, candidate = batchify(random_ids(model.config.ntoken, steps, seed), 1), disturb(model, seed, size)
    fidelity = compare_one(model, candidate, source, bptt)
    nlayers, column = model.config.nlayers, source[:, 0].numpy()
    log_p, log_q = (oracle.predictions(numpy_state(module), nlayers, column) for module in (model, candidate))
    assert fidelity.kl == pytest.approx((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean(), rel=1e-3, abs=1e-6)
    assert fidelity.loss == pytest.approx(oracle.loss(numpy_state(candidate), nlayers, source.numpy()), rel=1e-5)
    margins = [np.diff(np.sort(rows)[:, -2:]).min() for rows in (log_p, log_q)]
    if min(margins) > 1e-4:  # with a smaller margin, rounding may decide which word is the most likely
        assert fidelity.agreement == np.mean(log_p.argmax(axis=1) == log_q.argmax(axis=1))


@given(models(), st.integers(2, 40), st.integers(1, 25), seeds)
def test_model_has_no_divergence_from_itself_and_from_its_copy(model, steps, bptt, seed):
    source = batchify(random_ids(model.config.ntoken, steps, seed), 1)
    fidelity = compare_predictions(model, {"itself": model, "copy": disturb(model, 0, 0)}, next_words(source), bptt)
    assert (fidelity["itself"].kl, fidelity["itself"].agreement) == (0, 1)
    assert fidelity["copy"] == fidelity["itself"]


@settings(max_examples=20)
@given(models(max_width=8), st.sampled_from(["int8", "int8-embedding", "bf16"]), st.integers(1, 25), seeds)
def test_divergence_is_not_negative_and_agreement_is_a_share(model, scheme, bptt, seed):
    source = batchify(random_ids(model.config.ntoken, 30, seed), 1)
    fidelity = compare_one(model, quantize(model, scheme), source, bptt)
    assert fidelity.kl > -1e-6  # the sums are in float32
    assert 0 <= fidelity.agreement <= 1
    assert len(fidelity.losses) == len(fidelity.tokens) == math.ceil(29 / bptt)
    assert sum(fidelity.tokens) == 29


@settings(max_examples=20)
@given(models(), st.sampled_from(["float32", "int8", "bf16"]), st.integers(2, 40), st.integers(1, 25), seeds)
def test_losses_equal_those_of_evaluate(model, scheme, steps, bptt, seed):
    source = batchify(random_ids(model.config.ntoken, steps, seed), 1)
    candidate = model if scheme == "float32" else quantize(model, scheme)
    fidelity = compare_one(model, candidate, source, bptt)
    windows = list(window_losses(candidate, source, bptt))
    assert fidelity.tokens == [window.tokens for window in windows]
    assert fidelity.losses == pytest.approx([window.total / window.tokens for window in windows], rel=1e-5)
    assert fidelity.loss == pytest.approx(evaluate(candidate, source, bptt), rel=1e-5)


@settings(max_examples=20)
@given(models(max_ntoken=12), st.integers(1, 30), st.integers(1, 30), seeds)
def test_divergence_and_loss_do_not_depend_on_the_window(model, bptt, other_bptt, seed):
    source, candidate = batchify(random_ids(model.config.ntoken, 30, seed), 1), disturb(model, seed, 0.5)
    one, other = (compare_one(model, candidate, source, window) for window in (bptt, other_bptt))
    assert one.kl == pytest.approx(other.kl, rel=1e-3, abs=1e-6)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_models_are_read_without_dropout_and_return_to_their_modes(model):
    model.train()
    model.drop.p = 0.9
    assert compare_one(model, model, batchify(random_ids(30, 20, 0), 1), 7).kl == 0
    assert model.training
    assert not torch.is_inference_mode_enabled()


def test_mean_loss_weighs_windows_by_their_tokens():
    assert Fidelity(losses=[1.0, 4.0], tokens=[2, 1]).loss == 2
