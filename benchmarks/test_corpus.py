"""How fast is a corpus read, and in how much memory?"""

import tracemalloc

import pytest

from lstmq import Corpus, Dictionary
from lstmq.gate import exact
from lstmq.workload import sample_folder


def peak_and_current(build):
    """Return the peak and the final number of bytes that Python allocates while ``build`` runs."""
    tracemalloc.start()
    try:
        built = build()
        current, peak = tracemalloc.get_traced_memory()
        del built
        return peak, current
    finally:
        tracemalloc.stop()


@pytest.mark.benchmark(group="read a corpus")
def test_corpus(benchmark, gate_facts, gate_judge_case):
    """The memory is measured in a second reading, because tracing makes reading slower."""
    folder = sample_folder()
    corpus = benchmark.pedantic(Corpus, (folder,), rounds=3)
    tokens = len(corpus.train) + len(corpus.valid) + len(corpus.test)
    peak, _ = peak_and_current(lambda: Corpus(folder))
    words = [word.encode() for word in corpus.dictionary.idx2word]
    _, dictionary = peak_and_current(lambda: Dictionary(word.decode() for word in words))
    per_token = (peak - dictionary) / tokens
    benchmark.extra_info.update(gate_facts, tokens=tokens, peak_bytes=peak, bytes_per_token=per_token)
    if benchmark.stats:
        benchmark.extra_info["tokens_per_second"] = tokens / benchmark.stats.stats.median
    gate_judge_case("corpus", bytes_per_token=exact(per_token))
