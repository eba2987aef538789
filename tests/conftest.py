"""Fixtures that tests of several packages use, and Hypothesis's settings for all tests."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import settings

from lstmq import Dictionary, LSTMModel, ModelConfig, batchify, evaluate
from strategies import random_ids

# No deadline, because a busy machine may stall for longer than an example takes. Derandomized, so that a failure
# repeats. Tests whose law needs more examples, or whose examples are slow, set their own number.
settings.register_profile("lstmq", max_examples=40, deadline=None, derandomize=True, print_blob=True)
settings.load_profile("lstmq")


@pytest.fixture(autouse=True, scope="session")
def _single_threaded_torch():
    """Run torch on one thread, because small models are slower on two."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _few_words():
    """Let a comparison time only a few words one by one, because tests do not look at times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmq.comparison.words.SECONDS", 1e-4)
        patch.setattr("lstmq.comparison.words.ROUNDS", 2)
        yield


@pytest.fixture
def model():
    """A small float32 model in training mode: 30 words, two layers."""
    return LSTMModel(ModelConfig(ntoken=30, ninp=16, nhid=8, nlayers=2), torch.Generator().manual_seed(0))


@pytest.fixture
def dictionary(model):
    """A dictionary of as many words as ``model`` knows."""
    return Dictionary(["<unk>", "<eos>", *(f"word{i}" for i in range(2, model.config.ntoken))])


@pytest.fixture
def corpus_folder(tmp_path, dictionary):
    """A folder with three equal splits that contain exactly the words of ``dictionary``."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    text = "\n".join(" ".join(dictionary.idx2word[start:]) for start in (0, 7, 13)) + "\n"
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text(text.replace("<eos>", ""), encoding="utf-8")
    return folder


@pytest.fixture
def in_two_threads():
    """Return a function that evaluates a model of 30 words on two texts, in parallel and one after the other.

    It returns two lists of losses: those measured in parallel, and those measured alone.
    """

    def evaluate_twice(model):
        sources = [batchify(random_ids(30, 4000, seed), 1) for seed in (0, 1)]
        alone = [evaluate(model, source, 25) for source in sources]
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(lambda source: evaluate(model, source, 25), sources)), alone

    return evaluate_twice
