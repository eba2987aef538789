"""Laws of int8 files: what is written is read, bit by bit; whatever else is in a file is one line."""

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lstmq import Dictionary, LSTMModel, ModelConfig, batchify, evaluate
from lstmq.quantization.native.file import is_native_file, load_native, save_native
from lstmq.quantization.native.model import quantize_native, state_spec
from strategies import configs, seeds, stream

PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def words(count):
    return Dictionary(f"word{i}" for i in range(count))


@pytest.fixture
def file(model, dictionary, tmp_path):
    save_native(quantize_native(model), dictionary, tmp_path / "m.int8.safetensors")
    return tmp_path / "m.int8.safetensors"


@PATH
@given(config=configs(), seed=seeds)
def test_what_is_written_is_read(tmp_path, config, seed):
    model, path = quantize_native(LSTMModel(config, torch.Generator().manual_seed(seed))), tmp_path / "model"
    save_native(model, words(config.ntoken), path)
    assert is_native_file(path)
    again = load_native(path, words(config.ntoken))
    assert again.config == config
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    source = batchify(stream(config.ntoken, 40, seed), 1)
    assert evaluate(again, source, 25) == evaluate(model, source, 25)


def test_a_file_is_plain_safetensors(file, model):
    state = load_file(file)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()} == state_spec(model.config)


@PATH
@given(data=st.data())
def test_a_damaged_file_is_one_line_or_a_model_of_the_same_shape(file, dictionary, data):
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 900))  # the header is what is read with care
    damage = b"" if data.draw(st.booleans()) else data.draw(st.binary(min_size=1, max_size=9))
    path = file.with_name("damaged")
    path.write_bytes(whole[:place] + damage + (whole[place + len(damage) :] if damage else b""))
    if not is_native_file(path):
        return
    try:
        model = load_native(path, dictionary)
    except ValueError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
    else:
        assert model.config.ntoken == 30
        evaluate(model, batchify(stream(30, 30, 0), 1), 25)


def test_another_vocabulary_is_refused(file):
    for others in (words(30), words(29)):
        with pytest.raises(ValueError, match="is of another vocabulary: it knows 30 words, others than these"):
            load_native(file, others)


CONFIG = {"ntoken": 30, "ninp": 16, "nhid": 8, "nlayers": 2, "dropout": 0.5}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"decoder.scale": None}, {}, "expected 15 tensors, found 14; the first that differs is 'decoder.scale'"),
        ({"more": torch.zeros(1)}, {}, "expected 15 tensors, found 16; the first that differs is 'more'"),
        ({"decoder.bias": torch.zeros(29)}, {}, r"of shape \(30,\) for decoder.bias, found .* of shape"),
        ({"encoder.weight": torch.zeros(30, 16)}, {}, "expected torch.int8 of shape .* found torch.float32"),
        ({"encoder.scale": torch.full((30,), torch.nan)}, {}, "expected finite numbers in encoder.scale"),
        ({"decoder.bias": torch.full((30,), -torch.inf)}, {}, "expected finite numbers in decoder.bias"),
        ({"encoder.scale": torch.full((30,), -1.0)}, {}, "expected scales of at least 0 in encoder.scale"),
        ({"decoder.weight": torch.full((30, 8), -128, dtype=torch.int8)}, {}, "from -127 to 127 in decoder.weight"),
        ({}, {"version": "2"}, "expected version 1 of lstmq int8-native, found '2'"),
        ({}, {"version": "2\n\x1b[2J" * 99}, "expected version 1 of lstmq int8-native, found '2"),
        ({"a\nb": torch.zeros(1)}, {}, r"the first that differs is 'a\\nb'"),
        ({}, {"config": json.dumps(CONFIG)[:-4] + "1" + "0" * 400 + "}"}, "expected a model's shape"),
        ({}, {"config": "[" * 200_000}, "expected a model's shape"),
        ({}, {"config": "{"}, "expected a model's shape, found '{'"),
        ({}, {"config": "[1]"}, "expected a model's shape"),
        ({}, {"config": json.dumps(CONFIG | {"nhid": "8"})}, "expected a model's shape"),
        ({}, {"config": json.dumps(CONFIG | {"nhid": 0})}, "nhid must be at least 1, found 0"),
        ({}, {"config": json.dumps(CONFIG | {"nhid": 9})}, "expected torch.int8 of shape"),
        ({}, {"config": json.dumps(CONFIG | {"nlayers": 10**12})}, "expected 1,000,000,000,000 layers, found 15"),
        ({}, {"config": json.dumps(CONFIG | {"ntoken": 10**12})}, "expected torch.int8 of shape"),
    ],
)
def test_what_is_not_as_it_says_is_refused(file, dictionary, tensors, metadata, message):
    with safe_open(file, framework="pt") as opened:
        told = opened.metadata() | metadata
    state = {name: tensor for name, tensor in (load_file(file) | tensors).items() if tensor is not None}
    save_file(state, file, told)
    with pytest.raises(ValueError, match=message) as caught:
        load_native(file, dictionary)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).isprintable()


def test_a_file_that_cannot_be_read_back_is_not_kept(model, dictionary, tmp_path, monkeypatch):
    def other(path, dictionary):
        return quantize_native(LSTMModel(ModelConfig(**asdict(model.config)), torch.Generator().manual_seed(9)))

    monkeypatch.setattr(file, "load", other)
    with pytest.raises(ValueError, match="not written: it was read back with other numbers"):
        save_native(quantize_native(model), dictionary, tmp_path / "m")
    assert not [*tmp_path.iterdir()]


def test_other_files_are_not_of_this_format(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("{" * 99)
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    assert not any(map(is_native_file, [*tmp_path.iterdir(), tmp_path / "nowhere", tmp_path]))
