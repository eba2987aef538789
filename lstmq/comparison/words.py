"""Time per word when a model reads one word at a time, as it does when it generates: :func:`measure_words`.

A window of one step reads all weights for one row of activations, so the memory decides how fast it is.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, cycle, repeat

import torch
from torch import Tensor, nn

from lstmq.comparison.rates import Work, measure_rates
from lstmq.comparison.timing import clock, without_mkldnn
from lstmq.errors import one_line
from lstmq.model import LanguageModel, ModelConfig, evaluation_mode, window_losses
from lstmq.quantization import FLOAT32
from lstmq.quantization.native import NativeModel, available_isas, loops
from lstmq.text import Stream

SECONDS, ROUNDS, AT_MOST = 0.02, 5, 5.0  # of a model in a round; rounds; seconds for all models
READING = "reading"  # the weights that int8-native needs for a word, without computing
FLOAT32_NO_MKLDNN = "float32 without mkldnn"


def measure_words(models: Mapping[str, nn.Module], stream: Stream) -> tuple[dict[str, float], dict[str, str]]:
    """Return microseconds per word of each model, and why others have none.

    Each model reads many words in a row, so its weights are in the caches as far as they fit. Then the next one does.
    The result also has what float32 takes without mkldnn, as :data:`FLOAT32_NO_MKLDNN`; and if there is an int8-native
    model, what reading its weights takes, as :data:`READING`.

    Args:
        models: by name.
        stream: what they read, from the start, again and again.
    """
    works: dict[str, Work] = {}
    failed = {}
    for name, model in models.items():
        words = word_reader(model, stream)
        try:
            next(words)
        except Exception as error:  # a model of the user may need more than one step
            failed[name] = one_line(error)
        else:
            works[name] = partial(_read_words, words)
            if name == FLOAT32 and torch._C._has_mkldnn and torch._C._get_mkldnn_enabled():
                works[FLOAT32_NO_MKLDNN] = partial(_without_mkldnn, works[name])
        if isinstance(model, NativeModel) and (reading := _weights_reader(model)):
            works[READING] = reading
    rates = measure_rates(works, clock(), seconds=SECONDS, rounds=ROUNDS, at_most=AT_MOST)
    return {name: 1e6 / statistics.median(found) for name, found in rates.items()}, failed


def word_reader(model: nn.Module, stream: Stream) -> Iterator[object]:
    """Yield each time that a model has read one step of a stream. After the last step it goes on with the first.

    A language model reads one column, and returns the logits of the next word. Another module reads all columns and
    computes its loss, as in :func:`lstmq.evaluate`.
    """
    if isinstance(model, LanguageModel) and isinstance(stream.inputs, Tensor) and stream.call is None:
        return _generate(model, stream.inputs[:, :1].contiguous())
    return chain.from_iterable(window_losses(model, stream, 1) for _ in repeat(None))


@torch.inference_mode()
def _generate(model: LanguageModel, ids: Tensor) -> Iterator[object]:
    hidden = model.init_hidden(1)
    with evaluation_mode(model):
        for place in cycle(range(len(ids))):
            logits, hidden = model(ids[place : place + 1], hidden)
            yield logits


def _read_words(words: Iterator[object], count: int) -> int:
    for _ in range(count):
        next(words)
    return count


def _without_mkldnn(read: Callable[[int], float], count: int) -> float:
    with without_mkldnn():
        return read(count)


def bytes_per_word(config: ModelConfig) -> int:
    """Return the bytes of int8 weights that a model reads for a word: all matrices but the embedding."""
    inputs = config.ninp + (config.nlayers - 1) * config.nhid
    return 4 * config.nhid * (inputs + config.nlayers * config.nhid) + config.ntoken * config.nhid


def _weights_reader(model: NativeModel) -> Work | None:
    """Return a function that reads as much memory as a word of this model needs. ``None`` without kernels."""
    if available_isas()[1:] == []:
        return None
    memory = torch.full((max(bytes_per_word(model.config), 256),), 1, dtype=torch.uint8, device="cpu")

    def read_weights(count: int) -> int:
        loops.read(available_isas()[-1], memory, count)
        return count

    return read_weights
