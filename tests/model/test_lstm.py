"""Laws of the model.

1. It is the tutorial's: it prints the same modules, and has the same keys.
2. Its weights are drawn from the generator that is passed in, and from no other.
3. Two windows with the state carried between them equal one long window.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lstmq import LSTMModel, ModelConfig, repackage_hidden
from strategies import configs, models, random_ids, seeds

TUTORIAL = """\
LSTMModel(
  (drop): Dropout(p=0.5, inplace=False)
  (encoder): Embedding(33278, 512)
  (rnn): LSTM(512, 256, num_layers=5, dropout=0.5)
  (decoder): Linear(in_features=256, out_features=33278, bias=True)
)"""


def test_default_model_prints_what_the_tutorial_prints():
    assert repr(LSTMModel(ModelConfig())) == TUTORIAL


def test_state_dict_has_the_keys_of_the_tutorial(model):
    names = [f"rnn.{kind}_l{layer}" for layer in (0, 1) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert list(model.state_dict()) == ["encoder.weight", *names, "decoder.weight", "decoder.bias"]


@given(configs(), seeds)
def test_equal_generators_draw_equal_weights_in_the_ranges_of_the_tutorial(config, seed):
    before = torch.get_rng_state()
    first, second = (LSTMModel(config, torch.Generator().manual_seed(seed)).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not first["decoder.bias"].any()
    for key, weight in first.items():
        assert weight.abs().max() <= (1 / math.sqrt(config.nhid) if key.startswith("rnn") else 0.1)
        assert weight.numel() < 3 or key == "decoder.bias" or weight.unique().numel() > 1


@given(models(), st.integers(1, 4), st.integers(1, 9), st.data())
def test_two_windows_with_the_state_carried_equal_one_long_window(model, bsz, steps, data):
    model.eval()
    cut = data.draw(st.integers(0, steps))
    ids = random_ids(model.config.ntoken, steps * bsz, 0).view(steps, bsz)
    logits, (h, c) = model(ids, model.init_hidden(bsz))
    assert logits.shape == (steps, bsz, model.config.ntoken)
    assert h.shape == c.shape == (model.config.nlayers, bsz, model.config.nhid)
    if 0 < cut < steps:
        first, hidden = model(ids[:cut], model.init_hidden(bsz))
        second, _ = model(ids[cut:], hidden)
        assert torch.allclose(torch.cat([first, second]), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_init_hidden_returns_zeros_in_the_dtype_of_the_model(model, dtype):
    h, c = model.to(dtype).init_hidden(3)
    assert h.dtype == c.dtype == dtype
    assert not h.any()
    assert not c.any()


def test_repackage_hidden_returns_the_same_values_without_history(model):
    _, hidden = model(torch.zeros(2, 3, dtype=torch.int64), model.init_hidden(3))
    assert all(part.requires_grad for part in hidden)
    for before, after in zip(hidden, repackage_hidden(hidden), strict=True):
        assert torch.equal(before, after)
        assert not after.requires_grad
    assert not repackage_hidden(hidden[0]).requires_grad


def test_one_layer_has_no_dropout_between_layers(model):
    """torch warns of it, and warnings are errors in these tests."""
    assert LSTMModel(ModelConfig(ntoken=2, ninp=2, nhid=2, nlayers=1)).rnn.dropout == 0
    assert isinstance(model.rnn, nn.LSTM)
    assert model.rnn.dropout == 0.5


@pytest.mark.parametrize("field", ["ntoken", "ninp", "nhid", "nlayers"])
def test_config_refuses_a_size_below_one(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 1, found 0"):
        ModelConfig(**{field: 0})


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_config_refuses_a_dropout_that_is_not_a_probability_below_1(dropout):
    with pytest.raises(ValueError, match="dropout must be a probability below 1"):
        ModelConfig(dropout=dropout)
