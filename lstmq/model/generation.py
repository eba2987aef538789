"""Text from a model: :func:`generate`."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from lstmq.model.evaluation import evaluation_mode
from lstmq.model.lstm import LanguageModel
from lstmq.text import Dictionary


def generate(
    model: LanguageModel,
    dictionary: Dictionary,
    words: int,
    temperature: float = 1.0,
    generator: Generator | None = None,
) -> Iterator[str]:
    """Yield words that the model finds likely one after another, from a first word drawn evenly (and not yielded).

    Args:
        model: float32 or quantized.
        dictionary: the words of the model's ids.
        words: how many; at least 0.
        temperature: the logits' divisor: below 1 safer, above 1 wilder; 0 takes the likeliest word every time.
        generator: equal states give equal words; without one, torch's global generator draws.

    Raises:
        ValueError: if ``words`` or ``temperature`` is negative, or the dictionary is not of the model's size.
    """
    if words < 0:
        raise ValueError(f"the number of words must be at least 0, found {words}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"the temperature must be a number of at least 0, found {temperature}")
    if len(dictionary) != model.config.ntoken:
        raise ValueError(f"the model knows {model.config.ntoken:,} words, but the dictionary holds {len(dictionary):,}")
    return _generate(model, dictionary, words, temperature, generator)


@torch.inference_mode()
def _generate(
    model: LanguageModel, dictionary: Dictionary, words: int, temperature: float, generator: Generator | None
) -> Iterator[str]:
    word = torch.randint(len(dictionary), (1, 1), generator=generator)
    hidden = model.init_hidden(1)
    with evaluation_mode(model):
        for _ in range(words):
            logits, hidden = model(word, hidden)  # (1, 1, ntoken)
            word = _draw(logits[0].double(), temperature, generator)
            yield dictionary.idx2word[int(word)]


def _draw(logits: Tensor, temperature: float, generator: Generator | None) -> Tensor:
    """Return an id, shape ``(1, 1)``, drawn from float64 logits of shape ``(1, ntoken)``."""
    if temperature == 0:
        return logits.argmax(dim=1, keepdim=True)
    # The largest logit is moved to 0 first, so that no temperature, however low, overflows.
    probabilities = ((logits - logits.max()) / temperature).softmax(dim=1)
    return torch.multinomial(probabilities, 1, generator=generator)
