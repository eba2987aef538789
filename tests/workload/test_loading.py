"""Laws of the workload: the embedded default is whole and true; checkpoint and words belong together."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from lstmq import Corpus, LSTMModel, ModelConfig, evaluate
from lstmq.model import checkpoint
from lstmq.workload.loading import DEFAULT_TOKENS, load_text_subject, load_workload, sample_folder


@pytest.fixture
def checkpoint_file(tmp_path, model):
    checkpoint.save_checkpoint(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def words(subject):
    """Return all ids of a subject's stream, those that are targets only among them."""
    return torch.cat([subject.stream.inputs[:, 0], subject.stream.targets[-1]])


def test_the_default_times_the_tutorials_shape_and_takes_the_loss_of_the_sample():
    workload = load_workload()
    assert workload.speed.model.config == ModelConfig()
    assert len(workload.speed.stream) == DEFAULT_TOKENS - 1
    assert torch.equal(workload.speed.stream.targets, workload.loss.stream.targets[: DEFAULT_TOKENS - 1])
    assert len(workload.loss.stream) == len(Corpus(sample_folder()).test) - 1
    assert not workload.speed.model.training
    assert "seeded weights" in workload.speed.origin
    assert "lstm.safetensors" in workload.loss.origin
    again = load_workload(tokens=2).speed
    assert torch.equal(again.model.encoder.weight, workload.speed.model.encoder.weight)
    assert len(again.stream) == 1


def test_the_sample_is_small_original_and_in_wikitexts_conventions():
    corpus = Corpus(sample_folder())
    assert len(corpus.train) >= 60_000
    assert 2_000 <= len(corpus.dictionary) <= 5_000
    assert {"<unk>", "<eos>", "@-@", "@,@", "@.@", "="} <= corpus.dictionary.word2idx.keys()
    assert (sample_folder() / "lstm.safetensors").stat().st_size <= 4_000_000


def test_the_samples_model_has_learned_more_than_the_frequency_of_words():
    """The bar is the cross-entropy of the test words under their own frequencies, which no unigram model can beat."""
    subject = load_text_subject()
    counts = Counter(subject.stream.targets.flatten().tolist())
    total = sum(counts.values())
    unigram_entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    assert evaluate(subject.model, subject.stream, 25) < unigram_entropy / 2


def test_a_checkpoint_and_its_corpus_are_both_subjects_at_once(corpus_folder, checkpoint_file, model):
    workload = load_workload(corpus_folder, checkpoint_file)
    assert workload.speed is workload.loss
    assert torch.equal(words(workload.loss), Corpus(corpus_folder).test)
    assert torch.equal(workload.loss.model.decoder.weight, model.decoder.weight)


def test_unseen_words_are_read_with_the_vocabulary_of_the_checkpoint(corpus_folder, checkpoint_file, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text("word3 never seen\n", encoding="utf-8")
    subject = load_text_subject(other, checkpoint_file, vocabulary=corpus_folder)
    spelled = [subject.dictionary.idx2word[i] for i in words(subject)]
    assert spelled == ["word3", "<unk>", "<unk>", "<eos>"]


def test_a_checkpoint_of_another_vocabulary_is_refused(corpus_folder, tmp_path):
    checkpoint.save_checkpoint(LSTMModel(ModelConfig(ntoken=31, ninp=2, nhid=2, nlayers=1)), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth is of another vocabulary: it knows 31 words, .*corpus has 30"):
        load_text_subject(corpus_folder, tmp_path / "other.pth")


def test_the_samples_folder_needs_no_checkpoint():
    subject = load_text_subject(sample_folder())
    assert torch.equal(subject.model.decoder.weight, load_text_subject().model.decoder.weight)


def test_a_default_length_is_no_more_than_there_is(corpus_folder, checkpoint_file):
    assert len(load_text_subject(corpus_folder, checkpoint_file, at_most=5).stream) == 4
    assert (
        len(load_text_subject(corpus_folder, checkpoint_file, at_most=10**6).stream)
        == len(Corpus(corpus_folder).test) - 1
    )
    assert len(load_text_subject(corpus_folder, checkpoint_file, tokens=7, at_most=5).stream) == 6


def test_a_corpus_alone_is_refused(corpus_folder):
    with pytest.raises(ValueError, match="needs a checkpoint"):
        load_workload(corpus_folder)


@pytest.mark.parametrize("tokens", [-1, 0, 1, 10**6])
def test_tokens_past_the_end_or_too_few_are_refused(tokens, corpus_folder, checkpoint_file):
    for files in ((None, None), (corpus_folder, checkpoint_file)):
        with pytest.raises(
            ValueError, match=rf"test split holds [\d,]+ tokens: expected 2 to that many, found {tokens:,}"
        ):
            load_workload(*files, tokens=tokens)


def test_an_installed_package_carries_the_sample():
    """The wheel puts data/sample where sample_folder looks first."""
    import tomllib

    configured = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]
    assert configured["package-dir"] == {"lstmq.sample": "data/sample"}
    assert "lstmq.sample" in configured["packages"]
