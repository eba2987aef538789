"""The law of the kernels: on every processor, each one returns the same bits as the reference.

``conftest.py`` says which kernels are tested, and how those that this processor cannot run are emulated.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig
from lstmq.quantization.native import reference
from lstmq.quantization.native.model import quantize_native
from lstmq.quantization.native.weights import weights_from_state
from strategies import random_ids, seeds

# The fixtures select a kernel; examples do not change it.
one_kernel = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def windows(draw):
    """Draw an int8-native model of any shape, some with extreme weights; and ids, targets and a state for it."""
    widths = st.integers(1, 40) | st.sampled_from([63, 64, 65, 128, 130])
    config = ModelConfig(
        ntoken=draw(st.integers(2, 150) | st.sampled_from([255, 256, 257, 520])),
        ninp=draw(widths),
        nhid=draw(widths),
        nlayers=draw(st.integers(1, 3)),
    )
    seed = draw(seeds)
    generator = torch.Generator().manual_seed(seed)
    model = LSTMModel(config, generator)
    state = model.state_dict()
    name, other = (draw(st.sampled_from(sorted(state))) for _ in range(2))
    match draw(st.sampled_from(["unchanged", "zero", "a row of zeros", "one huge", "all large", "tiny"])):
        case "zero":
            state[name].zero_()
        case "a row of zeros":
            state[name][draw(st.integers(0, len(state[name]) - 1))] = 0
        case "one huge":
            state[name].view(-1)[draw(st.integers(0, state[name].numel() - 1))] = 1e6
        case "all large":  # gates saturate
            state[name] *= 1e3
            state[other] *= -1e3
        case "tiny":
            state[name] *= 1e-36
    bsz = draw(st.integers(1, 4) | st.sampled_from([7, 35]))  # AMX takes at least 6 rows, and 32 at a time
    n = draw(st.integers(1, 12 if bsz < 7 else 2))
    ids, targets = (random_ids(config.ntoken, n * bsz, seed + i).view(n, bsz) for i in (0, 1))
    shape = (config.nlayers, bsz, config.nhid)
    h, c = (torch.randn(shape, generator=generator) * draw(st.sampled_from([0.0, 1.0, 30.0])) for _ in "hc")
    return quantize_native(model), ids, targets, (h.clamp(-1, 1), c)


def reference_logits(model, ids, hidden):
    return reference.logits(weights_from_state(model.state_dict(), model.config), ids, hidden)


@one_kernel
@given(window=windows())
def test_kernel_returns_the_bits_of_the_reference_and_the_exact_loss(isa, window):
    model, ids, targets, hidden = window
    before = [tensor.clone() for tensor in hidden]
    expected, state = reference_logits(model, ids, hidden)
    logits, after = model(ids, hidden)
    loss, after_loss = model.window_loss(ids, targets, hidden)
    assert torch.equal(logits, expected)
    assert all(map(torch.equal, after, state))
    assert all(map(torch.equal, after_loss, state))
    assert all(map(torch.equal, hidden, before))
    exact = F.cross_entropy(expected.double().flatten(0, 1), targets.flatten(), reduction="sum").item()
    assert loss.item() == pytest.approx(exact, rel=1e-5, abs=1e-4)


def test_kernel_returns_the_bits_of_the_reference_at_tutorial_width(isa):
    """More rows than two AMX tiles hold, the tutorial's widths, and several panels of the decoder."""
    config = ModelConfig(ntoken=1_000, ninp=512, nhid=256, nlayers=2)
    model = quantize_native(LSTMModel(config, torch.Generator().manual_seed(0)))
    ids = random_ids(1_000, 39 * 2, 0).view(39, 2)
    expected, state = reference_logits(model, ids, model.init_hidden(2))
    logits, after = model(ids, model.init_hidden(2))
    assert torch.equal(logits, expected)
    assert all(map(torch.equal, after, state))


def test_two_threads_that_share_a_model_get_the_losses_of_one_thread(isa, model, in_two_threads):
    in_parallel, alone = in_two_threads(quantize_native(model))
    assert in_parallel == alone


@pytest.mark.parametrize("change", [{"dtype": torch.bfloat16}, {"dtype": torch.float64}, {"device": "meta"}])
def test_torch_defaults_do_not_change_the_logits(isa, model, change):
    quantized, ids = quantize_native(model), random_ids(30, 20, 0).view(20, 1)
    hidden = quantized.init_hidden(1)
    expected, _ = quantized(ids, hidden)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(change.get("dtype", before))
        with torch.device(change.get("device", "cpu")):
            logits, _ = quantized(ids, hidden)
            loss, _ = quantized.window_loss(ids, ids, hidden)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(logits, expected)
    assert loss.item() > 0


def test_loading_other_weights_replaces_the_packed_ones(isa, model):
    other = LSTMModel(model.config, torch.Generator().manual_seed(1))
    quantized, expected = quantize_native(model), quantize_native(other)
    ids, hidden = random_ids(30, 20, 0).view(20, 1), quantized.init_hidden(1)
    quantized(ids, hidden)
    quantized.load_state_dict(expected.state_dict())
    assert torch.equal(quantized(ids, hidden)[0], expected(ids, hidden)[0])
    with pytest.raises(ValueError, match=r"expected torch\.float32"):
        quantized.half()(ids, hidden)
