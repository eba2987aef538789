"""Laws of checkpoints.

1. A saved model loads with the same bits, and tied if it was tied.
2. Any other file is refused in one line that names it, and no code in it runs. ``test_checkpoint_kinds.py`` has the
   lines.
"""

import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq import LSTMModel, ModelConfig, quantize
from lstmq.model import checkpoint
from lstmq.model.checkpoint import CheckpointError
from strategies import models

formats = pytest.mark.parametrize("suffix", [".pth", ".safetensors"])


def write(state, path):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


@formats
@settings(max_examples=20)
@given(model=models(min_width=2), dropout=st.sampled_from([0.0, 0.2]))
def test_load_checkpoint_returns_the_bits_that_save_checkpoint_wrote(tmp_path_factory, suffix, model, dropout):
    path = tmp_path_factory.mktemp("checkpoint") / f"model{suffix}"
    checkpoint.save_checkpoint(model, path)
    loaded = checkpoint.load_checkpoint(path, dropout)
    assert loaded.config == replace(model.config, dropout=dropout)
    assert loaded.is_tied == model.config.tied
    state = loaded.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@formats
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_load_checkpoint_casts_half_precision_to_float32(tmp_path, model, suffix, dtype):
    half = {key: value.to(dtype) for key, value in model.state_dict().items()}
    loaded = checkpoint.load_checkpoint(write(half, tmp_path / f"half{suffix}")).state_dict()
    assert all(value.dtype == torch.float32 and torch.equal(value, half[key].float()) for key, value in loaded.items())


def test_load_checkpoint_reads_the_format_before_torch_1_6(tmp_path, model):
    """The tutorial's checkpoint is from 2019."""
    torch.save(model.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    loaded = checkpoint.load_checkpoint(tmp_path / "old.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())


def test_load_checkpoint_infers_the_format_from_the_content(tmp_path, model):
    safetensors.torch.save_file(model.state_dict(), tmp_path / "named.pth")
    assert checkpoint.load_checkpoint(tmp_path / "named.pth").config.ntoken == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.bias"), "FILE: missing the key decoder.bias"),
        (lambda s: s.pop("rnn.bias_hh_l1"), "FILE: missing the key rnn.bias_hh_l1"),
        (lambda s: s.pop("encoder.weight"), "FILE: expected the key encoder.weight, found the keys "),
        (lambda s: s.update(extra=torch.ones(1)), "FILE: unexpected: the key extra"),
        (
            lambda s: s.update({"rnn.weight_ih_l2": torch.ones(1)}),
            "FILE: missing the keys rnn.bias_hh_l2, rnn.bias_ih_l2",
        ),
        (lambda s: s.update({"decoder.bias": torch.ones(31)}), "expected shape (30,) for decoder.bias, found (31,)"),
        (
            lambda s: s.update({"encoder.weight": torch.ones(31, 16)}),
            "expected shape (31, 8) for decoder.weight, found (30",
        ),
        (
            lambda s: s.update({"encoder.weight": torch.ones(5)}),
            "expected a matrix for encoder.weight, found shape (5,)",
        ),
        (
            lambda s: s.update({"encoder.weight": torch.ones(0, 16)}),
            "expected a matrix for encoder.weight, found shape (0, ",
        ),
        (
            lambda s: s.update({"decoder.bias": torch.ones(30).int()}),
            "float16 or bfloat16 for decoder.bias, found torch.int",
        ),
        (lambda s: s["decoder.bias"].fill_(float("nan")), "expected finite numbers in decoder.bias, found NaN"),
        (
            lambda s: [s.pop(key) for key in list(s) if key.startswith("rnn")],
            "expected LSTM layers from rnn.weight_ih_l0",
        ),
        (lambda s: s.clear(), "FILE: expected the key encoder.weight, found no keys"),
    ],
)
@formats
def test_load_checkpoint_refuses_another_state_dict(tmp_path, model, suffix, change, message):
    state = {key: value.clone() for key, value in model.state_dict().items()}
    change(state)
    assert message in refusal(write(state, tmp_path / f"other{suffix}"))


@pytest.mark.parametrize(
    "found",
    [[1, 2], torch.ones(3), {"model": {"encoder.weight": torch.ones(2)}}, {"epoch": 3}, {1: torch.ones(1)}, None],
)
def test_load_checkpoint_refuses_a_value_that_is_not_a_state_dict(tmp_path, found):
    torch.save(found, tmp_path / "other.pth")
    assert "expected" in refusal(tmp_path / "other.pth")


@pytest.mark.parametrize("tensor", [torch.eye(3).to_sparse(), torch.ones(3, device="meta")])
def test_load_checkpoint_refuses_sparse_and_meta_tensors(tmp_path, model, tensor):
    torch.save(dict(model.state_dict()) | {"decoder.bias": tensor}, tmp_path / "other.pth")
    assert "expected a" in refusal(tmp_path / "other.pth")


def test_load_checkpoint_refuses_a_key_that_is_not_text_and_shows_line_breaks_escaped(tmp_path, model):
    torch.save(dict(model.state_dict()) | {3: torch.ones(1)}, tmp_path / "number.pth")
    assert "expected a state dict of plain tensors" in refusal(tmp_path / "number.pth")
    torch.save(dict(model.state_dict()) | {"two\nlines": torch.ones(1)}, tmp_path / "lines.pth")
    assert r"unexpected: the key two\nlines:" in refusal(tmp_path / "lines.pth")


def test_save_checkpoint_refuses_a_quantized_model(tmp_path, model):
    with pytest.raises(ValueError, match="expected a float model, found"):
        checkpoint.save_checkpoint(quantize(model), tmp_path / "int8.safetensors")
    assert not list(tmp_path.iterdir())


def test_load_checkpoint_refuses_a_small_file_that_claims_a_huge_tensor(tmp_path):
    """With a stride of 0, one number appears billions of times. Copying or comparing it would take ages."""
    model = LSTMModel(ModelConfig(ntoken=30, ninp=16, nhid=16, nlayers=1))
    huge = {key: torch.zeros(1).expand(10**9, 16) for key in ("encoder.weight", "decoder.weight")}
    torch.save(dict(model.state_dict()) | huge | {"decoder.bias": torch.zeros(1).expand(10**9)}, tmp_path / "huge.pth")
    assert "expected 64,000,000,000 bytes for encoder.weight, found 4" in refusal(tmp_path / "huge.pth")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("dump", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_load_checkpoint_does_not_run_code(tmp_path, model, dump):
    path, trace = tmp_path / "bomb.pth", tmp_path / "trace"
    dump(dict(model.state_dict()) | {"bomb": Bomb(trace)}, path)
    assert "found Python objects (" in refusal(path)
    assert not trace.exists()


@formats
def test_load_checkpoint_refuses_a_file_cut_at_any_length(tmp_path, model, suffix):
    checkpoint.save_checkpoint(model, tmp_path / f"whole{suffix}")
    data, path = (tmp_path / f"whole{suffix}").read_bytes(), tmp_path / f"cut{suffix}"
    for length in (1, 8, 9, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert "FILE" in refusal(path)


@formats
def test_load_checkpoint_of_a_damaged_file_fails_in_one_line_or_loads(tmp_path, model, suffix):
    checkpoint.save_checkpoint(model, tmp_path / f"whole{suffix}")
    data, path = (tmp_path / f"whole{suffix}").read_bytes(), tmp_path / f"damaged{suffix}"
    source = random.Random(0)
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(source.randrange(1, 20)):
            damaged[source.randrange(min(len(data), 4_000))] = source.randrange(256)
        path.write_bytes(damaged)
        try:
            loaded = checkpoint.load_checkpoint(path).state_dict()
            if suffix == ".pth":  # a zip has checksums, so what loads is undamaged
                assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_load_checkpoint_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth"):
        checkpoint.load_checkpoint(tmp_path / "nowhere.pth")


@formats
def test_save_checkpoint_keeps_the_old_file_after_an_interrupt(tmp_path, model, suffix, monkeypatch):
    path = tmp_path / f"model{suffix}"
    checkpoint.save_checkpoint(model, path)
    before = path.read_bytes()

    def interrupt(state, file):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.save", interrupt)
    monkeypatch.setattr("safetensors.torch.save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_checkpoint(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
