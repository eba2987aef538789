"""Text from a model: :func:`generate`."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from lstmq.model.base import LanguageModel
from lstmq.model.evaluation import evaluation_mode
from lstmq.text import Dictionary


def generate(
    model: LanguageModel,
    dictionary: Dictionary,
    words: int,
    temperature: float = 1.0,
    generator: Generator | None = None,
) -> Iterator[str]:
    """Yield words, each drawn from the model's predictions after the words before it.

    The model reads a random first word, which is not yielded, in evaluation mode. Afterwards, each of its modules is in
    the same mode as before.

    Args:
        model: float32 or quantized.
        dictionary: the words of the model's ids.
        words: number of words, at least 0.
        temperature: divides the logits, at least 0. A lower one prefers likely words; 0 always takes the likeliest.
        generator: draws the words; the same state gives the same words. The default is torch's global generator.

    Raises:
        ValueError: if ``words`` or ``temperature`` is out of range, the dictionary and the model have different numbers
            of words, or a logit is NaN or plus infinity.

    Example:
        >>> import torch
        >>> from lstmq import Corpus, generate, load_checkpoint
        >>> model = load_checkpoint("data/sample/lstm.safetensors")
        >>> dictionary = Corpus("data/sample").dictionary
        >>> text = list(generate(model, dictionary, words=5, generator=torch.Generator().manual_seed(0)))
        >>> len(text), all(word in dictionary.word2idx for word in text)
        (5, True)
    """
    if words < 0:
        raise ValueError(f"the number of words must be at least 0, found {words}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"the temperature must be a number of at least 0, found {temperature}")
    if len(dictionary) != model.config.ntoken:
        raise ValueError(f"the model knows {model.config.ntoken:,} words, but the dictionary has {len(dictionary):,}")
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
    """Return an id, int64, shape ``(1, 1)``, drawn from logits, float64, shape ``(1, ntoken)``."""
    if temperature == 0:
        return logits.argmax(dim=1, keepdim=True)
    # Subtract the largest logit first, so that dividing by a low temperature does not overflow.
    sums = ((logits - logits.max()) / temperature).exp().cumsum(dim=1)
    if not sums[0, -1] < math.inf:  # also if it is NaN
        raise ValueError("expected finite logits, found NaN or infinity")
    # A word's share of [0, 1) is its probability. torch.multinomial draws a number for each word, which takes longer
    # than some models take to read one.
    place = torch.rand(1, 1, dtype=torch.float64, generator=generator)
    return torch.searchsorted(sums / sums[:, -1:], place, right=True)
