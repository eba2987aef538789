"""Laws of loading a workload.

1. The default workload times the tutorial's shape, and measures the loss of the bundled trained model.
2. A checkpoint is read with the words that it was trained on, or refused.
3. Only as many tokens are read as you ask for.
"""

import math
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch

from lstmq import Corpus, LSTMModel, ModelConfig, evaluate, save_checkpoint
from lstmq.errors import InputWarning
from lstmq.workload.corpora import sample_folder
from lstmq.workload.loading import DEFAULT_TOKENS, load_text_subject, load_workload

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def checkpoint_file(tmp_path, model):
    save_checkpoint(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def default_workload():
    return load_workload()


def ids_of(subject):
    """Return all ids of a stream, including the last target."""
    return torch.cat([subject.stream.inputs[:, 0], subject.stream.targets[-1]])


def test_default_workload_times_the_tutorials_shape_and_measures_the_loss_of_the_sample(default_workload):
    workload = default_workload
    assert workload.speed.model.config == ModelConfig()
    assert len(workload.speed.stream) == DEFAULT_TOKENS - 1
    assert torch.equal(workload.speed.stream.targets, workload.loss.stream.targets[: DEFAULT_TOKENS - 1])
    assert len(workload.loss.stream) == len(Corpus(sample_folder()).test) - 1
    assert not workload.speed.model.training
    assert "seeded weights" in workload.speed.origin
    assert "lstm.safetensors" in workload.loss.origin


def test_default_workload_has_the_same_weights_each_time(default_workload):
    again = load_workload(tokens=2).speed
    assert len(again.stream) == 1
    assert torch.equal(again.model.encoder.weight, default_workload.speed.model.encoder.weight)


def test_sample_is_small_and_follows_the_conventions_of_wikitext():
    corpus = Corpus(sample_folder())
    assert len(corpus.train) >= 60_000
    assert 2_000 <= len(corpus.dictionary) <= 5_000
    assert {"<unk>", "<eos>", "@-@", "@,@", "@.@", "="} <= corpus.dictionary.word2idx.keys()
    assert (sample_folder() / "lstm.safetensors").stat().st_size <= 4_000_000


def test_sample_model_has_learned_more_than_word_frequencies():
    """The cross-entropy of the test words under their own frequencies is the least that any unigram model reaches."""
    subject = load_text_subject()
    counts = Counter(subject.stream.targets.flatten().tolist())
    total = sum(counts.values())
    unigram_entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    assert evaluate(subject.model, subject.stream, 25) < unigram_entropy / 2


def test_sample_folder_is_a_package_of_the_wheel():
    setuptools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert setuptools["package-dir"] == {"lstmq.sample": "data/sample"}
    assert "lstmq.sample" in setuptools["packages"]


def test_checkpoint_with_corpus_is_measured_for_speed_and_loss(corpus_folder, checkpoint_file, model):
    workload = load_workload(corpus_folder, checkpoint_file)
    assert workload.speed is workload.loss
    assert torch.equal(ids_of(workload.loss), Corpus(corpus_folder).test)
    assert torch.equal(workload.loss.model.decoder.weight, model.decoder.weight)


def test_corpus_without_checkpoint_uses_the_checkpoint_in_its_folder_or_is_refused(corpus_folder):
    subject = load_text_subject(sample_folder())
    assert torch.equal(subject.model.decoder.weight, load_text_subject().model.decoder.weight)
    with pytest.raises(ValueError, match="needs a checkpoint"):
        load_workload(corpus_folder)


def test_vocabulary_makes_other_words_unknown(corpus_folder, checkpoint_file, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text("word3 never seen\n", encoding="utf-8")
    with pytest.warns(InputWarning, match="66.7% of other's test split is <unk>, so a loss says little about it"):
        subject = load_text_subject(other, checkpoint_file, vocabulary=corpus_folder)
    assert subject.origin.endswith(", on 4 tokens of other's test split, 66.7% <unk>")
    words = [subject.dictionary.idx2word[idx] for idx in ids_of(subject)]
    assert words == ["word3", "<unk>", "<unk>", "<eos>"]


def test_checkpoint_with_another_number_of_words_is_refused(corpus_folder, tmp_path):
    save_checkpoint(LSTMModel(ModelConfig(ntoken=31, ninp=2, nhid=2, nlayers=1)), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth is of another vocabulary: it knows 31 words, .*corpus has 30"):
        load_text_subject(corpus_folder, tmp_path / "other.pth")


@pytest.mark.parametrize(("limits", "steps"), [({"at_most": 5}, 4), ({"tokens": 7, "at_most": 5}, 6)])
def test_stream_is_as_short_as_you_ask_for(corpus_folder, checkpoint_file, limits, steps):
    assert len(load_text_subject(corpus_folder, checkpoint_file, **limits).stream) == steps


def test_at_most_beyond_the_split_reads_the_whole_split(corpus_folder, checkpoint_file):
    subject = load_text_subject(corpus_folder, checkpoint_file, at_most=10**6)
    assert len(subject.stream) == len(Corpus(corpus_folder).test) - 1


@pytest.mark.parametrize("tokens", [-1, 0, 1, 10**6])
def test_tokens_out_of_range_are_refused(tokens, corpus_folder, checkpoint_file):
    for files in ((None, None), (corpus_folder, checkpoint_file)):
        with pytest.raises(
            ValueError, match=rf"the stream has [\d,]+ tokens: expected 2 to that many, found {tokens:,}"
        ):
            load_workload(*files, tokens=tokens)
