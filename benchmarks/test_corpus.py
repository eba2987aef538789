"""How fast is a corpus read, and in how much memory?"""

import tracemalloc

import pytest

from lstmq import Corpus, Dictionary
from lstmq.gate.statistics import exact
from lstmq.workload.loading import find_corpus


def peak_and_current(build):
    """Return the bytes that Python held at most, and still holds, for what ``build`` makes."""
    tracemalloc.start()
    try:
        built = build()
        current, peak = tracemalloc.get_traced_memory()
        del built
        return peak, current
    finally:
        tracemalloc.stop()


@pytest.mark.benchmark(group="read a corpus")
def test_corpus(benchmark, facts, pytestconfig, judge):
    """The memory is measured in a reading of its own: tracing slows it down."""
    folder = find_corpus(pytestconfig.getoption("--corpus"))
    corpus = benchmark.pedantic(Corpus, (folder,), rounds=3)
    tokens = len(corpus.train) + len(corpus.valid) + len(corpus.test)
    peak, _ = peak_and_current(lambda: Corpus(folder))
    words = [word.encode() for word in corpus.dictionary.idx2word]
    _, dictionary = peak_and_current(lambda: Dictionary(word.decode() for word in words))
    per_token = (peak - dictionary) / tokens
    benchmark.extra_info.update(facts, tokens=tokens, peak_bytes=peak, bytes_per_token=per_token)
    if benchmark.stats:
        benchmark.extra_info["tokens_per_second"] = tokens / benchmark.stats.stats.median
    judge("corpus", bytes_per_token=exact(per_token))
