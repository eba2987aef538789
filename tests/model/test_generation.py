"""Laws of generation.

1. The same seed generates the same text.
2. Temperature 0 takes the likeliest word.
3. Words are as frequent as the softmax of the logits says.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import SCHEMES, Dictionary, generate, quantize
from strategies import models, seeds


def make_dictionary(model):
    return Dictionary(f"w{i}" for i in range(model.config.ntoken))


@settings(max_examples=20)
@given(models(), seeds, st.floats(0, 10), st.integers(0, 20))
def test_generate_with_the_same_seed_yields_the_same_text(model, seed, temperature, count):
    dictionary = make_dictionary(model)
    first, second = (
        list(generate(model, dictionary, count, temperature, torch.Generator().manual_seed(seed))) for _ in range(2)
    )
    assert first == second
    assert len(first) == count
    assert set(first) <= set(dictionary.idx2word)


def test_generate_with_other_seeds_yields_other_texts(model, dictionary):
    texts = {tuple(generate(model, dictionary, 20, 1.0, torch.Generator().manual_seed(seed))) for seed in range(9)}
    assert len(texts) == 9


@settings(max_examples=20)
@given(models(), seeds)
def test_generate_at_temperature_0_takes_the_likeliest_word(model, seed):
    """The test reads the whole text from the start, and so does not carry the state as generate does."""
    dictionary = make_dictionary(model)
    text = list(generate(model, dictionary, 6, 0, torch.Generator().manual_seed(seed)))
    first = torch.randint(model.config.ntoken, (1, 1), generator=torch.Generator().manual_seed(seed))
    ids = [int(first), *(dictionary.word2idx[word] for word in text)]
    logits, _ = model.eval()(torch.tensor(ids[:-1]).view(-1, 1), model.init_hidden(1))
    generated = logits[:, 0].gather(1, torch.tensor(ids[1:]).view(-1, 1)).squeeze(1)
    assert torch.allclose(generated, logits[:, 0].amax(1))


def test_generate_draws_words_as_often_as_the_softmax_says(model, dictionary):
    """The decoder ignores its input, so that all words are independent draws from one distribution."""
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.copy_(torch.linspace(-2, 2, 30))
    n, temperature = 1_000, 0.7
    text = list(generate(model, dictionary, n, temperature, torch.Generator().manual_seed(1)))
    expected = (model.decoder.bias / temperature).softmax(0)
    for word, probability in zip(dictionary.idx2word, expected.tolist(), strict=True):
        sd = math.sqrt(probability * (1 - probability) / n)
        assert abs(text.count(word) / n - probability) < 5 * sd


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e300])
def test_generate_does_not_overflow_at_any_temperature(model, dictionary, temperature):
    text = list(generate(model, dictionary, 20, temperature, torch.Generator().manual_seed(3)))
    if temperature < 1:
        assert text[:1] == list(generate(model, dictionary, 1, 0, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "bf16-compile"])  # compiles no logits
def test_generate_reads_quantized_models(model, dictionary, scheme):
    text = list(generate(quantize(model, scheme), dictionary, 30, 1.0, torch.Generator().manual_seed(0)))
    assert len(text) == 30


def test_generate_restores_the_mode_of_the_model(model, dictionary):
    list(generate(model.train(), dictionary, 3))
    assert model.training
    assert model.drop.training


@pytest.mark.parametrize(
    ("words", "temperature", "message"),
    [
        (-1, 1.0, "number of words must be at least 0, found -1"),
        (5, -0.5, "temperature must be a number of at least 0, found -0.5"),
        (5, math.nan, "temperature must be"),
        (5, math.inf, "temperature must be"),
    ],
)
def test_generate_refuses_numbers_out_of_range_when_it_is_called(model, dictionary, words, temperature, message):
    with pytest.raises(ValueError, match=message):
        generate(model, dictionary, words, temperature)


def test_generate_refuses_a_dictionary_of_another_size(model):
    with pytest.raises(ValueError, match="knows 30 words, but the dictionary has 1"):
        generate(model, Dictionary(["one"]), 5)


@pytest.mark.parametrize("bias", [math.nan, math.inf])
def test_generate_draws_no_word_from_logits_that_are_not_finite(model, dictionary, bias):
    with torch.no_grad():
        model.decoder.bias[3] = bias
    with pytest.raises(ValueError, match="expected finite logits, found NaN or infinity"):
        list(generate(model, dictionary, 1))
