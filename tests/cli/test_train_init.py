"""Laws of ``lstmq train --init``.

1. Training starts from any checkpoint that loads, with its shape, and keeps a tied model tied.
2. A resumed run goes on from its own state, whatever ``--init`` says.
3. What cannot be started is refused in one line.
"""

import pytest
import torch
from click.testing import CliRunner

from lstmq import Corpus, LSTMModel, ModelConfig, batchify, evaluate, load_checkpoint, save_checkpoint
from lstmq.cli import main
from lstmq.errors import InputNote

FAST = ("--epochs", "1", "--batch-size", "2", "--bptt", "5", "--threads", "1")


@pytest.fixture
def train(corpus_folder, tmp_path):
    """Return a function that trains a model on the small corpus with these options."""

    def train(*options, out=tmp_path / "out.safetensors"):
        command = ["train", "--corpus", corpus_folder, "--out", out, *FAST, *options]
        return CliRunner().invoke(main, [*map(str, command)])

    return train


def start_model(tied):
    config = ModelConfig(ntoken=30, ninp=8, nhid=8, nlayers=2, tied=tied)
    return LSTMModel(config, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["start.pth", "start.safetensors"])
def test_training_starts_from_the_checkpoint_and_keeps_its_shape(train, tmp_path, corpus_folder, name, tied):
    start = start_model(tied)
    save_checkpoint(start, tmp_path / name)
    result = train("--init", tmp_path / name, "--lr", 1e-9)
    assert result.exit_code == 0, result.output
    trained = load_checkpoint(tmp_path / "out.safetensors")
    assert trained.config == start.config
    assert trained.is_tied == tied
    for key, weight in trained.state_dict().items():  # a tiny learning rate hardly moves them
        assert torch.allclose(weight, start.state_dict()[key], atol=1e-6)


def test_training_improves_the_checkpoint(train, tmp_path, corpus_folder):
    save_checkpoint(start_model(False), tmp_path / "start.pth")
    assert train("--init", tmp_path / "start.pth", "--lr", 1).exit_code == 0
    text = batchify(Corpus(corpus_folder).valid, 1)
    before, after = (load_checkpoint(tmp_path / name) for name in ("start.pth", "out.safetensors"))
    assert evaluate(after, text, 25) < evaluate(before, text, 25)


def test_training_starts_from_a_checkpoint_with_a_prefix_and_says_so(train, tmp_path):
    state = {f"module.{key}": weight for key, weight in start_model(False).state_dict().items()}
    torch.save(state, tmp_path / "start.pth")
    result = train("--init", tmp_path / "start.pth")
    assert result.exit_code == 0, result.output
    assert f"lstmq: note: {tmp_path}/start.pth: removed the prefix module. from its keys\n" in result.stderr
    with pytest.warns(InputNote):
        load_checkpoint(tmp_path / "start.pth")


def test_checkpoint_of_another_corpus_is_trained_in_its_own_words(train, tmp_path, corpus_folder):
    save_checkpoint(start_model(False), tmp_path / "start.pth")
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text("word3 new words word4\n" * 20, encoding="utf-8")
    options = ("--init", tmp_path / "start.pth", "--corpus", other)
    refused = train(*options)
    assert refused.exit_code == 2
    assert "start.pth is of another vocabulary: it knows 30 words" in refused.stderr
    assert refused.stderr.endswith("name the corpus that it was trained on with --vocabulary\n")
    result = train(*options, "--vocabulary", corpus_folder)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "out.safetensors").config.ntoken == 30


def test_resumed_run_goes_on_from_its_own_state(train, tmp_path, monkeypatch):
    save_checkpoint(start_model(True), tmp_path / "start.pth")
    whole, out = tmp_path / "whole.pth", tmp_path / "out.pth"
    options = ("--init", tmp_path / "start.pth", "--lr", 1, "--epochs", 2)
    assert train(*options, out=whole).exit_code == 0
    with monkeypatch.context() as patch:  # as if the process were killed after an epoch
        patch.setattr("lstmq.training.Outputs.delete_state", lambda outputs: None)
        assert train("--init", tmp_path / "start.pth", "--lr", 1, out=out).exit_code == 0
    (tmp_path / "start.pth").unlink()
    result = train(*options, "--resume", out=out)
    assert result.exit_code == 0, result.output
    one, other = load_checkpoint(whole), load_checkpoint(out)
    assert other.is_tied
    assert all(torch.equal(weight, other.state_dict()[key]) for key, weight in one.state_dict().items())


def test_new_model_is_tied_on_demand(train, tmp_path):
    result = train("--tied", "--ninp", 4, "--nhid", 4, "--nlayers", 1)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "out.safetensors").is_tied


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "nowhere.pth"], "nowhere.pth"),
        (["--init", "START", "--nhid", 8], "--init determines the shape of the model: omit --nhid"),
        (["--init", "START", "--tied"], "--init determines the shape of the model: omit --tied"),
        (["--tied", "--ninp", 4, "--nhid", 8], "a tied model needs equal widths, found ninp 4 and nhid 8"),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(train, tmp_path, options, message):
    save_checkpoint(start_model(False), tmp_path / "start.pth")
    result = train(*(tmp_path / "start.pth" if option == "START" else option for option in options))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
