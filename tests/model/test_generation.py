"""Laws of generation: equal seeds, equal words; temperature 0 is argmax; the draw follows the softmax."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmq import SCHEMES, Dictionary, generate, quantize
from strategies import models, seeds


def words_of(model):
    return Dictionary(f"w{i}" for i in range(model.config.ntoken))


@given(models(), seeds, st.floats(0, 10), st.integers(0, 30))
def test_equal_seeds_generate_equal_text(model, seed, temperature, count):
    dictionary = words_of(model)
    one, other = (
        list(generate(model, dictionary, count, temperature, torch.Generator().manual_seed(seed))) for _ in range(2)
    )
    assert one == other
    assert len(one) == count
    assert set(one) <= set(dictionary.idx2word)


def test_other_seeds_generate_other_text(model, dictionary):
    texts = {tuple(generate(model, dictionary, 20, 1.0, torch.Generator().manual_seed(seed))) for seed in range(9)}
    assert len(texts) == 9


@given(models(), seeds)
def test_temperature_0_takes_the_likeliest_word(model, seed):
    """An independent walk: each word is the argmax after all the words before it, read from the start."""
    dictionary = words_of(model)
    text = list(generate(model, dictionary, 6, 0, torch.Generator().manual_seed(seed)))
    first = torch.randint(model.config.ntoken, (1, 1), generator=torch.Generator().manual_seed(seed))
    ids = [int(first), *(dictionary.word2idx[word] for word in text)]
    logits, _ = model.eval()(torch.tensor(ids[:-1]).view(-1, 1), model.init_hidden(1))
    chosen = logits[:, 0].gather(1, torch.tensor(ids[1:]).view(-1, 1)).squeeze(1)
    torch.testing.assert_close(chosen, logits[:, 0].amax(1))


def test_words_are_drawn_as_often_as_the_softmax_says(model, dictionary):
    """With a decoder that ignores its input, every word is an independent draw from one distribution."""
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.copy_(torch.linspace(-2, 2, 30))
    n, temperature = 4_000, 0.7
    text = list(generate(model, dictionary, n, temperature, torch.Generator().manual_seed(1)))
    expected = (model.decoder.bias / temperature).softmax(0)
    for word, probability in zip(dictionary.idx2word, expected.tolist(), strict=True):
        sd = math.sqrt(probability * (1 - probability) / n)
        assert abs(text.count(word) / n - probability) < 5 * sd


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e300])
def test_no_temperature_overflows(model, dictionary, temperature):
    cold = list(generate(model, dictionary, 20, temperature, torch.Generator().manual_seed(3)))
    if temperature < 1:
        assert cold[:1] == list(generate(model, dictionary, 1, 0, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "bf16-compile"])  # nor compiles its logits
def test_quantized_models_generate_too(model, dictionary, scheme):
    text = list(generate(quantize(model, scheme), dictionary, 30, 1.0, torch.Generator().manual_seed(0)))
    assert len(text) == 30


def test_the_models_mode_is_restored(model, dictionary):
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
def test_what_cannot_be_generated_is_refused_at_the_call(model, dictionary, words, temperature, message):
    with pytest.raises(ValueError, match=message):
        generate(model, dictionary, words, temperature)


def test_a_dictionary_of_another_size_is_refused(model):
    with pytest.raises(ValueError, match="knows 30 words, but the dictionary holds 1"):
        generate(model, Dictionary(["one"]), 5)
