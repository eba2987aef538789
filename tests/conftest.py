"""What the tests share."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import settings

from lstmq import Dictionary, LSTMModel, ModelConfig, batchify, evaluate
from strategies import stream

# No deadline: these machines stall for longer than an example takes. Derandomised, so that a red run repeats.
settings.register_profile("lstmq", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("lstmq")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny models are slower on two."""
    torch.set_num_threads(1)


@pytest.fixture
def model():
    """A small model in training mode, as it comes."""
    return LSTMModel(ModelConfig(ntoken=30, ninp=16, nhid=8, nlayers=2), torch.Generator().manual_seed(0))


@pytest.fixture
def dictionary(model):
    """Words for the ids of ``model``."""
    return Dictionary(["<unk>", "<eos>", *(f"word{i}" for i in range(2, model.config.ntoken))])


@pytest.fixture
def corpus_folder(tmp_path, dictionary):
    """A folder of text whose words are ``dictionary``."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    text = "\n".join(" ".join(dictionary.idx2word[start:]) for start in (0, 7, 13)) + "\n"
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text(text.replace("<eos>", ""), encoding="utf-8")
    return folder


@pytest.fixture
def in_two_threads():
    """Let a model of 30 words read two streams at once; give the losses, and those of each alone."""

    def read(model):
        sources = [batchify(stream(30, 4000, seed), 1) for seed in (0, 1)]
        alone = [evaluate(model, source, 25) for source in sources]
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(lambda source: evaluate(model, source, 25), sources)), alone

    return read
